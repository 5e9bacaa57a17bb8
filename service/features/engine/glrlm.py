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
from service.features.engine.size_matrix import Numbers, describe_sizes

Counts = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int32]
Lengths = npt.NDArray[np.uint8] | npt.NDArray[np.int32]


def describe_runs(matrices: Numbers, levels: GreyLevels) -> dict[str, float]:
    """Compute the features, averaged over directions; NaN where no direction is left.

    Args:
        matrices: (A, n, R), from `merge_directions`.
        levels: the grey levels of their rows.
    """
    found = describe_sizes(matrices, levels.numbers, np.arange(1.0, matrices.shape[2] + 1))
    return {
        "GrayLevelNonUniformity": found.level_nonuniformity,  # R5YN
        "GrayLevelNonUniformityNormalized": found.level_nonuniformity_normalised,  # OVBL
        "GrayLevelVariance": found.level_variance,  # 8CE5
        "HighGrayLevelRunEmphasis": found.high,  # G3QZ
        "LongRunEmphasis": found.large,  # W4KF
        "LongRunHighGrayLevelEmphasis": found.large_high,  # 3KUM
        "LongRunLowGrayLevelEmphasis": found.large_low,  # IVPO
        "LowGrayLevelRunEmphasis": found.low,  # V3SW
        "RunEntropy": found.entropy,  # HJ9O
        "RunLengthNonUniformity": found.size_nonuniformity,  # W92Y
        "RunLengthNonUniformityNormalized": found.size_nonuniformity_normalised,  # IC23
        "RunPercentage": found.percentage,  # 9ZK5
        "RunVariance": found.size_variance,  # SXLW
        "ShortRunEmphasis": found.small,  # 22OV
        "ShortRunHighGrayLevelEmphasis": found.small_high,  # GD3A
        "ShortRunLowGrayLevelEmphasis": found.small_low,  # HTZT
    }


def merge_directions(counts: Counts, occupied: npt.NDArray[np.bool_], weights: Doubles | None) -> Numbers:
    """Drop directions without runs, or add all directions up, weighted.

    Args:
        counts: (A, n, R), from `count_runs`.
        occupied: (A,), from `occupied_directions`.
        weights: (A,), from `run_weights`, or None.
    """
    if weights is not None:
        merged: Doubles = np.tensordot(weights * occupied, counts.astype(np.float64), axes=1)[None]
        return merged
    if occupied.all():
        return counts
    return counts[occupied] if len(counts) > 1 else np.zeros_like(counts)


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
    planes = np.zeros((len(offsets), 2 * grid.shape[1] * grid.shape[2]), dtype=np.uint8 if longest < 256 else np.int32)
    counts = np.zeros((len(offsets), levels.size + 1, longest + 1), dtype=np.int64)
    _count(grid, margin, region.spans, offsets, planes, counts)
    return counts[:, 1:, 1:]


@kernel
def _count(grid: Voxels, margin: int, spans: Offsets, offsets: Offsets, lengths: Lengths, counts: Counts) -> None:
    """Count runs in one scan; directions lead forwards in scan order.

    A run's length at each voxel follows from the voxel before it, so the lengths of two planes are kept, (A, 2JI),
    in a type as narrow as they are: vector code then does many at once. A run of two voxels and more is counted
    where it ends; the voxels that are left are runs of one. Lengths outside the region mean nothing.
    """
    _, rows, columns = grid.shape
    plane, stride, cells = rows * columns, counts.shape[2], counts.shape[1] * counts.shape[2]
    flat, kept, table = grid.reshape(-1), lengths.reshape(-1), counts.reshape(-1)
    ends, places = np.zeros(columns, lengths.dtype), np.zeros(columns, np.int32)
    for z in range(margin, margin + spans.shape[0]):
        for y in range(margin, margin + spans.shape[1]):
            width = spans[z - margin, y - margin, 1] - spans[z - margin, y - margin, 0]
            start = y * columns + margin + spans[z - margin, y - margin, 0]
            voxel = z * plane + start
            for a in range(offsets.shape[0] if width else 0):
                k, aside, buffer = offsets[a, 0], offsets[a, 1] * columns + offsets[a, 2], 2 * a * plane + start
                step, here = k * plane + aside, buffer + (z % 2) * plane
                _extend(flat, voxel, voxel - step, kept, buffer + ((z - k) % 2) * plane - aside, here, width)
                _find_ends(flat, voxel, voxel + step, kept, here, ends, width)
                _count_ends(flat, voxel, ends, places, width, table, a * cells, stride)
            for x in range(voxel, voxel + width):
                table[flat[x] * stride] += 1
    _count_single(counts)


@kernel
def _count_ends(
    flat: Voxels, voxel: int, ends: Lengths, places: Integers, width: int, table: Counts, first: int, stride: int
) -> None:
    """Count the runs that end in one row: first find them, without a branch, then count."""
    found, here = np.uintp(0), np.uintp(voxel)
    for x in range(np.uintp(width)):
        places[found] = x
        found += np.uintp(ends[x] != 0)
    for k in range(found):
        place = np.uintp(places[k])
        table[np.uintp(first) + np.uintp(flat[here + place]) * np.uintp(stride) + np.uintp(ends[place])] += 1


@kernel
def _count_single(counts: Counts) -> None:
    """Count the runs of one voxel: all voxels, counted as of length 0 in the first direction, but those counted."""
    for rank in range(counts.shape[1]):
        everything = counts[0, rank, 0]
        for a in range(counts.shape[0]):
            single = everything
            for length in range(2, counts.shape[2]):
                single -= length * counts[a, rank, length]
            counts[a, rank, 1] = single


@kernel
def _extend(flat: Voxels, voxel: int, before: int, lengths: Lengths, source: int, target: int, width: int) -> None:
    """Continue the runs of one row along one step; unsigned indices spare Numba a check that bars vector code."""
    here, earlier, old, new = np.uintp(voxel), np.uintp(before), np.uintp(source), np.uintp(target)
    kind = lengths.dtype.type
    one = kind(1)
    for x in range(np.uintp(width)):
        longer = kind(lengths[old + x] + one)
        lengths[new + x] = longer if flat[here + x] == flat[earlier + x] else one


@kernel
def _find_ends(flat: Voxels, voxel: int, after: int, lengths: Lengths, first: int, ends: Lengths, width: int) -> None:
    """Tell the length of the run that ends at each voxel of one row; 0 for runs of one and for other voxels."""
    here, later, place = np.uintp(voxel), np.uintp(after), np.uintp(first)
    kind = lengths.dtype.type
    one = kind(1)
    for x in range(np.uintp(width)):
        rank, length = flat[here + x], lengths[place + x]
        ends[x] = kind(length * kind((rank != flat[later + x]) & (rank != 0) & (length != one)))
