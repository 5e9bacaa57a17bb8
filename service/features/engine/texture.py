"""All grey level classes of one derived image."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from service.errors import RadiomicsRefused
from service.features.engine import glcm, gldm, glrlm, glszm, ngtdm
from service.features.engine.discretise import GreyLevels, discretise, require_texture
from service.features.engine.firstorder import describe_intensities
from service.features.engine.options import ImageOptions
from service.features.engine.region import Offsets, Region, Voxels, directions


@dataclass(frozen=True)
class Surroundings:
    """What the region alone decides for texture, shared by all derived images of the same options.

    Attributes:
        region: whose texture is described.
        near: directions at the distances asked for, (A, 3): GLCM, GLDM, NGTDM.
        adjacent: directions to the nearest neighbours, (B, 3): GLRLM, GLSZM.
        margin: background needed around the box, voxels.
    """

    region: Region
    near: Offsets
    adjacent: Offsets
    margin: int

    @cached_property
    def occupied(self) -> npt.NDArray[np.bool_]:
        """Which adjacent directions have a line that meets two voxels (B,)."""
        return glrlm.occupied_directions(self.region, self.adjacent)


@dataclass(frozen=True)
class DerivedVoxels:
    """Intensities of one derived image inside the region.

    Attributes:
        values: (N,) in scan order, of the derived image's own type.
        levels: their grey levels.
        grid: the levels' ranks in space, with the margin of the surroundings.
    """

    values: Voxels
    levels: GreyLevels
    grid: Voxels


def survey(region: Region, options: ImageOptions) -> Surroundings:
    """Find the directions that the options ask for.

    Raises:
        RadiomicsRefused: the region is too small for any direction.
    """
    near = directions(region.shape, options.distances, options.flat_axis)
    adjacent = directions(region.shape, (1,), options.flat_axis)
    if not len(near) or not len(adjacent):
        raise RadiomicsRefused("no two voxels of the region's box lie at the distances asked for")
    return Surroundings(region, near, adjacent, max(options.distances))


def prepare_voxels(values: Voxels, surroundings: Surroundings, options: ImageOptions) -> DerivedVoxels:
    """Make the grey levels of a derived image.

    Args:
        values: (N,), intensities of the region in scan order.
        surroundings: of the region.
        options: how levels are made.
    """
    levels = discretise(values, options)
    return DerivedVoxels(values, levels, levels.grid(surroundings.region, surroundings.margin))


def describe_class(
    name: str, voxels: DerivedVoxels, surroundings: Surroundings, options: ImageOptions
) -> dict[str, float]:
    """Compute every feature of one class on one derived image.

    Args:
        name: firstorder, glcm, gldm, glrlm, glszm or ngtdm.
        voxels: the derived image.
        surroundings: of the region.
        options: of the derived image.

    Raises:
        RadiomicsRefused: the levels cannot be counted.
    """
    if name == "firstorder":
        volume = surroundings.region.voxel_volume
        return describe_intensities(voxels.values, voxels.levels, volume, options.shift)
    require_texture(voxels.levels, squared=name == "glcm")
    return _TEXTURES[name](voxels, surroundings, options)


def _pairs(voxels: DerivedVoxels, surroundings: Surroundings, options: ImageOptions) -> dict[str, float]:
    near, region = surroundings.near, surroundings.region
    weights = glcm.pair_weights(near, region.spacing, options.weighting)
    counts = glcm.count_pairs(voxels.grid, voxels.levels, region, near)
    shares = glcm.share_pairs(counts, voxels.levels, options.symmetrical, weights)
    return glcm.describe_pairs(shares, 1 if weights is not None else len(near), voxels.levels)


def _runs(voxels: DerivedVoxels, surroundings: Surroundings, options: ImageOptions) -> dict[str, float]:
    adjacent, region = surroundings.adjacent, surroundings.region
    counts = glrlm.count_runs(voxels.grid, voxels.levels, region, adjacent)
    weights = glrlm.run_weights(adjacent, region.spacing, options.weighting)
    return glrlm.describe_runs(glrlm.merge_directions(counts, surroundings.occupied, weights), voxels.levels)


def _zones(voxels: DerivedVoxels, surroundings: Surroundings, _: ImageOptions) -> dict[str, float]:
    zones = glszm.find_zones(voxels.grid, surroundings.region, surroundings.adjacent)
    return glszm.describe_zones(zones, voxels.levels)


def _dependence(voxels: DerivedVoxels, surroundings: Surroundings, options: ImageOptions) -> dict[str, float]:
    region, near = surroundings.region, surroundings.near
    matrix = gldm.count_dependence(voxels.grid, voxels.levels, region, near, options.dependence)
    return gldm.describe_dependence(matrix, voxels.levels)


def _differences(voxels: DerivedVoxels, surroundings: Surroundings, _: ImageOptions) -> dict[str, float]:
    sums = ngtdm.sum_differences(voxels.grid, voxels.levels, surroundings.region, surroundings.near)
    return ngtdm.describe_differences(sums, voxels.levels)


_TEXTURES: Mapping[str, Callable[[DerivedVoxels, Surroundings, ImageOptions], dict[str, float]]] = {
    "glcm": _pairs,
    "glrlm": _runs,
    "glszm": _zones,
    "gldm": _dependence,
    "ngtdm": _differences,
}
