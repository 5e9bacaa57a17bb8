"""Neighbouring grey tone difference matrix: PyRadiomics' class `ngtdm`.

References:
    Amadasun, King, "Textural features corresponding to textural properties", IEEE Trans. SMC 19(5), 1989.
    IBSI reference manual, section 3.9. PyRadiomics keeps voxels without neighbours, with a difference of 0.
"""

import numpy as np
import numpy.typing as npt

from service.features.engine.compiled import kernel
from service.features.engine.discretise import GreyLevels
from service.features.engine.region import Offsets, Region, Voxels, flat_offsets

Doubles = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int32]

_LARGEST_PACKED = 1 << 16  # levels: 26 then add up to less than 2^24

FLAT_COARSENESS = 1e6
"""What PyRadiomics reports for an image without any difference, where the coarseness is infinite."""


def describe_differences(differences: Doubles, levels: GreyLevels) -> dict[str, float]:
    """Compute the features of a difference matrix.

    Args:
        differences: s_i (n,), from `sum_differences`.
        levels: grey levels i and the counts n_i of their voxels.
    """
    total = int(levels.counts.sum())
    shares, numbers = levels.counts / total, levels.numbers
    weighted = shares * differences
    change, everything = float(np.sum(weighted)), float(np.sum(differences))
    pairs = levels.size * (levels.size - 1)
    contrast, unlike, complexity, strength = _compare_levels(shares, numbers, weighted)
    return {
        "Busyness": change / unlike if unlike != 0 else 0.0,  # NQ30
        "Coarseness": 1 / change if change != 0 else FLAT_COARSENESS,  # QCDE
        "Complexity": complexity / total,  # HDEZ
        "Contrast": contrast * everything / total / pairs if pairs else 0.0,  # 65HE
        "Strength": strength / everything if everything != 0 else 0.0,  # 1X9X
    }


@kernel
def _compare_levels(shares: Doubles, numbers: Doubles, weighted: Doubles) -> tuple[float, float, float, float]:
    """Sum over all pairs of levels i and j: p_i p_j (i - j)^2, |i p_i - j p_j|, complexity, (p_i + p_j) (i - j)^2."""
    contrast, unlike, complexity, strength = 0.0, 0.0, 0.0, 0.0
    for i in range(numbers.shape[0]):
        row = (0.0, 0.0, 0.0, 0.0)
        for j in range(i):
            distance, both = numbers[i] - numbers[j], shares[i] + shares[j]
            row = (
                row[0] + shares[i] * shares[j] * distance**2,
                row[1] + abs(numbers[i] * shares[i] - numbers[j] * shares[j]),
                row[2] + distance * (weighted[i] + weighted[j]) / both,
                row[3] + both * distance**2,
            )
        contrast += 2 * row[0]
        unlike += 2 * row[1]
        complexity += 2 * row[2]
        strength += 2 * row[3]
    return contrast, unlike, complexity, strength


def sum_differences(grid: Voxels, levels: GreyLevels, region: Region, offsets: Offsets) -> Doubles:
    """Sum, over the voxels of each grey level, the distance to the mean grey level of their neighbours.

    Args:
        grid: ranks with a margin (K, J, I).
        levels: of the same image.
        region: of the same image; its box is the grid without margin.
        offsets: one of each pair of opposite neighbours (A, 3).

    Returns:
        float64 (n,).
    """
    margin = (grid.shape[0] - region.shape[0]) // 2
    numbers = np.concatenate([[0], levels.numbers]).astype(np.uint16 if levels.top < 65536 else np.int32)
    steps = flat_offsets(offsets, grid.shape)
    tones = grid if levels.dense else numbers[grid]
    if levels.top < _LARGEST_PACKED and len(offsets) == 13 and np.abs(offsets).max() == 1:
        return _sum_around(grid, tones, levels.size, margin, region.spans)[1:]
    return _sum(grid, tones, levels.size, margin, region.spans, np.concatenate([steps, -steps]))[1:]


@kernel
def _sum_around(grid: Voxels, tones: Voxels, size: int, margin: int, spans: Offsets) -> Doubles:
    """Do what `_sum` does for the 26 adjacent voxels: nine rows added up, then three neighbours of the sum.

    The tones' sum and how many there are share a number.
    """
    _, rows, columns = grid.shape
    ranks, flat = grid.reshape(-1), tones.reshape(-1)
    sums = np.zeros(size + 1)
    nine, differences = np.empty(columns, np.int32), np.empty(columns)
    for z in range(spans.shape[0]):
        for y in range(spans.shape[1]):
            start = ((z + margin) * rows + y + margin) * columns + margin + spans[z, y, 0]
            width = spans[z, y, 1] - spans[z, y, 0]
            nine[: width + 2] = 0
            for k in range(-1, 2 if width else -1):
                for j in range(-1, 2):
                    _add_packed(flat, start + (k * rows + j) * columns - 1, nine[: width + 2])
            _compare_mean(flat, start, nine, differences[:width])
            for x in range(width):
                sums[ranks[start + x]] += differences[x]
    return sums


@kernel
def _add_packed(flat: Voxels, start: int, total: Integers) -> None:
    """Add one row of tones, with their number above bit 24; unsigned indices spare Numba a check."""
    there = np.uintp(start)
    for x in range(np.uintp(total.shape[0])):
        tone = np.int32(flat[there + x])
        total[x] += tone + (np.int32(1 << 24) if tone != 0 else np.int32(0))


@kernel
def _compare_mean(flat: Voxels, start: int, nine: Integers, differences: Doubles) -> None:
    """Compute the distance of each tone of a row to the mean of those around it, 0 where there are none."""
    here = np.uintp(start)
    for x in range(np.uintp(differences.shape[0])):
        tone = np.int32(flat[here + x])
        around = nine[x] + nine[x + np.uintp(1)] + nine[x + np.uintp(2)] - tone - np.int32(1 << 24)
        count, total = np.int32(around >> 24), np.int32(around & np.int32(0xFFFFFF))
        mean = np.float64(total) / np.float64(max(count, np.int32(1)))
        differences[x] = abs(np.float64(tone) - mean) if count > 0 else 0.0


@kernel
def _sum(grid: Voxels, tones: Voxels, size: int, margin: int, spans: Offsets, steps: Offsets) -> Doubles:
    """Sum over the voxels of each rank (n + 1,); `tones` holds the levels of the ranks in `grid`."""
    _, rows, columns = grid.shape
    ranks, flat = grid.reshape(-1), tones.reshape(-1)
    sums = np.zeros(size + 1)
    totals, numbers = np.empty(columns, np.int32), np.empty(columns, np.int32)
    for z in range(spans.shape[0]):
        for y in range(spans.shape[1]):
            start = ((z + margin) * rows + y + margin) * columns + margin + spans[z, y, 0]
            width = spans[z, y, 1] - spans[z, y, 0]
            total, count = totals[:width], numbers[:width]
            total[:] = 0
            count[:] = 0
            for k in range(steps.shape[0]):
                _add(flat, start + steps[k], total, count)
            for x in range(total.shape[0]):
                if flat[start + x] and count[x]:
                    sums[ranks[start + x]] += abs(float(flat[start + x]) - float(total[x]) / float(count[x]))
    return sums


@kernel
def _add(flat: Voxels, start: int, total: Integers, count: Integers) -> None:
    """Add one neighbour of each voxel of a row; unsigned indices spare Numba a check that bars vector code."""
    there = np.uintp(start)
    for x in range(np.uintp(total.shape[0])):
        tone = np.int32(flat[there + x])
        total[x] += tone
        count[x] += np.int32(tone != 0)
