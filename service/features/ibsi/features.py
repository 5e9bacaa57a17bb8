"""Features as IBSI defines them, after image processing as IBSI defines it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from service.errors import EmptyRoi, RoiTooSmall
from service.features.engine.firstorder import describe_intensities
from service.features.engine.region import Region
from service.features.engine.shape import describe_shape
from service.features.ibsi.configuration import CT, Configuration
from service.features.ibsi.intensities import assign_levels, resegment
from service.features.ibsi.interpolation import Volume, crop, resample
from service.features.ibsi.texture import describe_texture, lay_out
from service.ibsi_names import FEATURES

Bits = npt.NDArray[np.bool_]

PREFIX = "ibsi_"


def compute_ibsi(
    voxels: npt.NDArray[Any], mask: Bits, spacing: tuple[float, float, float], configuration: Configuration = CT
) -> dict[str, float]:
    """Compute the features of one region.

    Args:
        voxels: (K, J, I).
        mask: bool (K, J, I).
        spacing: mm along (K, J, I).
        configuration: how the image is processed first.

    Returns:
        Values named `ibsi_<class>_<PyRadiomics' name>`, in the order of `service.ibsi_names.FEATURES`.

    Raises:
        EmptyRoi: no voxel is in the mask, or none is left after interpolation or re-segmentation.
        RoiTooSmall: a single voxel is left.
        RadiomicsRefused: the intensities cannot serve as grey levels.

    References:
        IBSI reference manual, arXiv:1612.07003, chapters 2 (image processing) and 3 (features).
    """
    volume = process(voxels, mask, spacing, configuration)
    inside = resegment(volume.voxels, volume.inside, configuration)
    morphological, intensity = cut_region(volume.inside, volume.spacing), cut_region(inside, volume.spacing)
    values = volume.voxels[inside]
    levels = assign_levels(values, configuration)
    statistics = describe_intensities(values, levels, intensity.voxel_volume)
    statistics["Kurtosis"] -= 3  # IBSI's is the excess kurtosis
    found = _prefixed("shape_", describe_form(morphological)) | _prefixed("firstorder_", statistics)
    found |= describe_texture(lay_out(intensity, levels, configuration.aggregation))
    return {PREFIX + feature.name: found[feature.name] for feature in FEATURES}


def describe_form(region: Region) -> dict[str, float]:
    """Compute the morphological features.

    The lengths of the axes follow from the variances of the voxel centres over N - 1, as in the reference values of
    the digital phantom; PyRadiomics divides by N.

    Args:
        region: the morphological mask: interpolated, not re-segmented.
    """
    form = describe_shape(region)
    for axis in ("MajorAxisLength", "MinorAxisLength", "LeastAxisLength"):
        form[axis] *= (region.count / (region.count - 1)) ** 0.5
    return form


def _prefixed(prefix: str, found: Mapping[str, float]) -> dict[str, float]:
    return {prefix + name: value for name, value in found.items()}


def process(
    voxels: npt.NDArray[Any], mask: Bits, spacing: tuple[float, float, float], configuration: Configuration
) -> Volume:
    """Interpolate image and mask; without interpolation, cut out the region's box.

    Raises:
        EmptyRoi: the mask is empty, or has no voxel on the new grid.
    """
    if not mask.any():
        raise EmptyRoi("the region of interest holds no voxel", voxels=0)
    if configuration.interpolation is None:
        return crop(voxels, mask, spacing)
    return resample(voxels, mask, spacing, configuration.interpolation)


def cut_region(inside: Bits, spacing: tuple[float, float, float]) -> Region:
    """Cut a mask to its box.

    Raises:
        RoiTooSmall: a single voxel.
    """
    count = int(np.count_nonzero(inside))
    if count < 2:
        raise RoiTooSmall("the region of interest is a single voxel", voxels=count)
    places = np.argwhere(inside)
    (z, y, x), (z1, y1, x1) = places.min(axis=0).tolist(), (places.max(axis=0) + 1).tolist()
    own = np.ascontiguousarray(inside[z:z1, y:y1, x:x1])
    return Region((z, y, x), (z1 - z, y1 - y, x1 - x), own, count, spacing)
