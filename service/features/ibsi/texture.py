"""Texture matrices, merged over slices and directions in the six ways of IBSI.

The matrices are counted by the engine's kernels, and described by its formulas; what differs from PyRadiomics is
which matrices are added up, which features are averaged, and which voxels the NGTDM counts.

References:
    IBSI reference manual, sections 3.6 (GLCM), 3.7 (GLRLM), 3.8 (GLSZM), 3.10 (NGTDM) and 3.11 (NGLDM).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from operator import add

import numpy as np
import numpy.typing as npt

from service.errors import RadiomicsRefused
from service.features.engine import glcm, gldm, glrlm, glszm, ngtdm
from service.features.engine.discretise import GreyLevels, require_texture
from service.features.engine.region import Offsets, Region, Voxels, directions
from service.features.ibsi.configuration import Aggregation

Counts = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]
Features = Mapping[str, float]


@dataclass(frozen=True)
class Part:
    """A slice, or the whole volume, within which voxels are neighbours.

    Attributes:
        grid: ranks of grey levels with a margin of one (K + 2, J + 2, I + 2).
        region: the part's own voxels.
    """

    grid: Voxels
    region: Region


@dataclass(frozen=True)
class Texture:
    """What all matrices of one intensity mask share.

    Attributes:
        parts: those that hold voxels.
        levels: grey levels of all parts together.
        offsets: one of each pair of opposite neighbours (A, 3).
        aggregation: how matrices are merged.
    """

    parts: tuple[Part, ...]
    levels: GreyLevels
    offsets: Offsets
    aggregation: Aggregation


def lay_out(region: Region, levels: GreyLevels, aggregation: Aggregation) -> Texture:
    """Split the region into the parts that the aggregation looks at.

    Args:
        region: the intensity mask.
        levels: of its voxels.
        aggregation: by slice or in the volume.

    Raises:
        RadiomicsRefused: no slice, or not the volume, is wide enough for two neighbours; too many grey levels.
    """
    require_texture(levels, squared=True)
    grid = levels.grid(region, 1)
    offsets = directions(region.shape, (1,), 0 if aggregation.by_slice else None)
    if not len(offsets):
        raise RadiomicsRefused("no two voxels of the region can be neighbours: texture needs at least two")
    parts = tuple(_slices(grid, region)) if aggregation.by_slice else (Part(grid, region),)
    return Texture(parts, levels, offsets, aggregation)


def _slices(grid: Voxels, region: Region) -> Iterator[Part]:
    for plane, inside in enumerate(region.inside):
        count = int(np.count_nonzero(inside))
        if count:
            shape = (1, *region.shape[1:])
            own = replace(region, lower=(plane, 0, 0), shape=shape, inside=inside[None], count=count)
            yield Part(grid[plane : plane + 3], own)


def describe_texture(texture: Texture) -> dict[str, float]:
    """Compute the features of all matrices, named `class_Feature`."""
    classes = {
        "glcm": _pairs(texture),
        "glrlm": _runs(texture),
        "glszm": _zones(texture),
        "ngtdm": _differences(texture),
        "gldm": _dependence(texture),
    }
    return {f"{name}_{feature}": value for name, found in classes.items() for feature, value in found.items()}


def merge(matrices: Iterable[Iterable[Counts]], aggregation: Aggregation) -> Iterator[Counts]:
    """Add matrices up as the aggregation says.

    Args:
        matrices: for each part the matrices of its directions, (n, m) each.
        aggregation: which of them are added up.

    Yields:
        The matrices (n, m) that are left and are not empty.
    """
    wanted = ([reduce(add, part)] if aggregation.merges_directions else part for part in matrices)
    stacks: Iterable[Iterable[Counts]] = [reduce(_add_each, wanted)] if aggregation.merges_slices else wanted
    for stack in stacks:
        yield from (matrix for matrix in stack if matrix.any())


def _add_each(some: Iterable[Counts], others: Iterable[Counts]) -> list[Counts]:
    return [one + other for one, other in zip(some, others, strict=True)]


def _pairs(texture: Texture) -> Features:
    levels, offsets = texture.levels, texture.offsets
    counts = (glcm.count_pairs(part.grid, levels, part.region, offsets) for part in texture.parts)
    shares = [*glcm.share_pairs(merge(counts, texture.aggregation), levels, symmetrical=True, weights=None)]
    return glcm.describe_pairs(iter(shares), max(len(shares), len(offsets)), levels)


def _runs(texture: Texture) -> Features:
    levels, offsets = texture.levels, texture.offsets
    counts = (glrlm.count_runs(part.grid, levels, part.region, offsets) for part in texture.parts)
    return glrlm.describe_runs(np.stack([*merge(counts, texture.aggregation)]).astype(np.float64), levels)


def _zones(texture: Texture) -> Features:
    found = [glszm.find_zones(part.grid, part.region, texture.offsets) for part in texture.parts]
    if texture.aggregation.merges_slices:
        ranks, sizes = (np.concatenate([getattr(zones, field) for zones in found]) for field in ("ranks", "sizes"))
        found = [glszm.Zones(ranks, sizes)]
    return _average([glszm.describe_zones(zones, texture.levels) for zones in found])


def _dependence(texture: Texture) -> Features:
    counts = (
        [gldm.count_dependence(part.grid, texture.levels, part.region, texture.offsets, alpha=0)]
        for part in texture.parts
    )
    matrices = merge(counts, texture.aggregation)
    return _average([gldm.describe_dependence(matrix, texture.levels) for matrix in matrices])


def _differences(texture: Texture) -> Features:
    """Describe the NGTDM; voxels without neighbours are left out, which PyRadiomics counts with a difference of 0."""
    sums = [ngtdm.sum_differences(part.grid, texture.levels, part.region, texture.offsets) for part in texture.parts]
    counts = [_count_accompanied(part, texture) for part in texture.parts]
    if texture.aggregation.merges_slices:
        sums, counts = [np.sum(sums, axis=0)], [np.sum(counts, axis=0)]
    rows = [row for row in zip(sums, counts, strict=True) if row[1].any()]
    if not rows:
        return dict.fromkeys(("Busyness", "Coarseness", "Complexity", "Contrast", "Strength"), np.nan)
    return _average([_describe_differences(total, count, texture.levels) for total, count in rows])


def _describe_differences(sums: Doubles, counts: Counts, levels: GreyLevels) -> Features:
    present = counts > 0
    kept = replace(levels, numbers=levels.numbers[present], counts=counts[present])
    return ngtdm.describe_differences(sums[present], kept)


def _count_accompanied(part: Part, texture: Texture) -> Counts:
    """Count the voxels of each grey level that have a neighbour in the part (n,)."""
    accompanied = np.zeros(part.region.shape, dtype=np.bool_)
    for offset in np.concatenate([texture.offsets, -texture.offsets]):
        box = tuple(slice(1 + step, 1 + step + size) for step, size in zip(offset, part.region.shape, strict=True))
        accompanied |= part.grid[box] > 0
    inner = part.grid[1:-1, 1:-1, 1:-1]
    return np.bincount(inner[accompanied & (inner > 0)], minlength=texture.levels.size + 1)[1:]


def _average(rows: list[Features]) -> Features:
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
