"""Grey level run length matrix: PyRadiomics' class `glrlm`.

References:
    Galloway, "Texture analysis using gray level run lengths", CGIP 4, 1975.
    IBSI reference manual, section 3.7. PyRadiomics leaves out directions in which no line meets two voxels.
"""

import numpy as np
import numpy.typing as npt

from service.features.engine.compiled import kernel
from service.features.engine.discretise import GreyLevels
from service.features.engine.options import Weighting
from service.features.engine.region import Bits, Offsets, Region, Voxels
from service.features.engine.size_matrix import describe_sizes

Counts = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]
Lengths = npt.NDArray[np.int32]


def describe_runs(matrices: Doubles, levels: GreyLevels) -> dict[str, float]:
    """Compute the features, averaged over directions; NaN where no direction is left.

    Args:
        matrices: (A, n, R), from `merge_directions`.
        levels: the grey levels of their rows.
    """
    lengths = np.flatnonzero(matrices.sum(axis=(0, 1)))
    with np.errstate(all="ignore"):
        found = describe_sizes(matrices[:, :, lengths], levels.numbers, (lengths + 1).astype(np.float64))
    return {
        "GrayLevelNonUniformity": _mean(found.level_nonuniformity),  # R5YN
        "GrayLevelNonUniformityNormalized": _mean(found.level_nonuniformity_normalised),  # OVBL
        "GrayLevelVariance": _mean(found.level_variance),  # 8CE5
        "HighGrayLevelRunEmphasis": _mean(found.high),  # G3QZ
        "LongRunEmphasis": _mean(found.large),  # W4KF
        "LongRunHighGrayLevelEmphasis": _mean(found.large_high),  # 3KUM
        "LongRunLowGrayLevelEmphasis": _mean(found.large_low),  # IVPO
        "LowGrayLevelRunEmphasis": _mean(found.low),  # V3SW
        "RunEntropy": _mean(found.entropy),  # HJ9O
        "RunLengthNonUniformity": _mean(found.size_nonuniformity),  # W92Y
        "RunLengthNonUniformityNormalized": _mean(found.size_nonuniformity_normalised),  # IC23
        "RunPercentage": _mean(found.percentage),  # 9ZK5
        "RunVariance": _mean(found.size_variance),  # SXLW
        "ShortRunEmphasis": _mean(found.small),  # 22OV
        "ShortRunHighGrayLevelEmphasis": _mean(found.small_high),  # GD3A
        "ShortRunLowGrayLevelEmphasis": _mean(found.small_low),  # HTZT
    }


def _mean(values: Doubles) -> float:
    return float(np.mean(values)) if len(values) else np.nan


def merge_directions(counts: Counts, occupied: npt.NDArray[np.bool_], weights: Doubles | None) -> Doubles:
    """Drop directions without runs, or add all directions up, weighted.

    Args:
        counts: (A, n, R), from `count_runs`.
        occupied: (A,), from `occupied_directions`.
        weights: (A,), from `run_weights`, or None.
    """
    matrices = np.where(occupied[:, None, None], counts, 0).astype(np.float64)
    if weights is not None:
        merged: Doubles = np.tensordot(weights, matrices, axes=1)[None]
        return merged
    return matrices if len(matrices) == 1 else matrices[occupied]


def run_weights(offsets: Offsets, spacing: tuple[float, float, float], norm: Weighting | None) -> Doubles | None:
    """Return the weight of each direction (A,): the length of a step in mm under the norm; None for no norm."""
    if norm is None:
        return None
    steps: Doubles = np.abs(offsets) * np.array(spacing)
    if norm == "infinity":
        return np.asarray(np.max(steps, axis=1))
    if norm == "euclidean":
        return np.asarray(np.sqrt(np.sum(steps**2, axis=1)))
    if norm == "manhattan":
        return np.asarray(np.sum(steps, axis=1))
    return np.ones(len(offsets))


def occupied_directions(region: Region, offsets: Offsets) -> npt.NDArray[np.bool_]:
    """Tell which directions have a line that meets two voxels of the region, neighbours or not (A,).

    Args:
        region: any.
        offsets: directions (A, 3), steps of at most one.
    """
    padded = region.padded()
    return np.array([_touches(padded, offset) or _shares_line(region, offset) for offset in offsets], dtype=np.bool_)


def _shares_line(region: Region, offset: Counts) -> bool:
    """Tell whether two voxels differ by a multiple of the offset."""
    axis = int(np.flatnonzero(offset)[0])
    voxels = np.argwhere(region.inside)
    feet = voxels - (voxels[:, axis] * offset[axis])[:, None] * offset
    return len(np.unique(feet, axis=0)) < len(feet)


@kernel
def _touches(padded: Bits, offset: Counts) -> bool:
    """Tell whether two voxels differ by the offset; padded has a margin of one."""
    planes, rows, columns = padded.shape
    for z in range(1, planes - 1):
        for y in range(1, rows - 1):
            for x in range(1, columns - 1):
                if padded[z, y, x] and padded[z + offset[0], y + offset[1], x + offset[2]]:
                    return True
    return False


def count_runs(grid: Voxels, levels: GreyLevels, region: Region, offsets: Offsets) -> Counts:
    """Count runs of voxels of equal level by level, length and direction.

    Args:
        grid: ranks with a margin (K, J, I).
        levels: of the same image.
        region: of the same image; its box is the grid without margin.
        offsets: directions (A, 3), steps of at most one.

    Returns:
        int64 (A, n, R), R the longest extent of the box.
    """
    margin = (grid.shape[0] - region.shape[0]) // 2
    longest = max(region.shape)
    return _count(grid, margin, levels.size, longest, offsets)


@kernel
def _count(grid: Voxels, margin: int, size: int, longest: int, offsets: Offsets) -> Counts:
    """Count runs in one scan; directions lead forwards in scan order.

    A run's length at each voxel follows from the voxel before it, so the lengths of two planes are kept. A run is
    counted where it ends; a voxel where it goes on is counted in row 0, which saves a branch.
    """
    planes, rows, columns = grid.shape
    plane, width = rows * columns, columns - 2 * margin
    flat = grid.reshape(-1)
    counts = np.zeros((offsets.shape[0], (size + 1) * (longest + 1)), np.int64)
    lengths = np.zeros((offsets.shape[0], 2 * plane), np.int32)
    cells = np.zeros((offsets.shape[0], width), np.int32)
    for z in range(margin, planes - margin):
        for y in range(margin, rows - margin):
            start = y * columns + margin
            for a in range(offsets.shape[0]):
                k, aside = offsets[a, 0], offsets[a, 1] * columns + offsets[a, 2]
                step = k * plane + aside
                before = ((z - k) % 2) * plane + start - aside
                _extend(flat, z * plane + start, step, lengths[a], before, (z % 2) * plane + start, width)
                _find_ends(flat, z * plane + start, step, lengths[a], (z % 2) * plane + start, longest + 1, cells[a])
            for x in range(width):
                if grid[z, y, margin + x]:
                    for a in range(offsets.shape[0]):
                        counts[a, cells[a, x]] += 1
    return counts.reshape(-1, size + 1, longest + 1)[:, 1:, 1:]


@kernel
def _extend(flat: Voxels, start: int, step: int, lengths: Lengths, before: int, here: int, width: int) -> None:
    """Continue the runs of one row along one step; unsigned indices spare Numba a check that bars vector code."""
    voxel, earlier = np.uintp(start), np.uintp(start - step)
    source, target = np.uintp(before), np.uintp(here)
    for x in range(np.uintp(width)):
        same = flat[voxel + x] == flat[earlier + x]
        lengths[target + x] = np.int32(1) + (lengths[source + x] if same else np.int32(0))


@kernel
def _find_ends(flat: Voxels, start: int, step: int, lengths: Lengths, here: int, stride: int, cells: Lengths) -> None:
    """Number the cell (level, length) of each voxel of one row that ends a run; 0 for the others."""
    voxel, later, target = np.uintp(start), np.uintp(start + step), np.uintp(here)
    for x in range(np.uintp(cells.shape[0])):
        rank = flat[voxel + x]
        end = np.int32(rank) * np.int32(stride) + lengths[target + x]
        cells[x] = end if rank != flat[later + x] else np.int32(0)
