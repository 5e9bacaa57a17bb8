"""Grey level dependence matrix: PyRadiomics' class `gldm`.

References:
    Sun, Wee, "Neighboring gray level dependence matrix for texture classification", CVGIP 23, 1983.
    IBSI reference manual, section 3.10. PyRadiomics counts the voxel itself: a size of one has no dependent.
"""

import numpy as np
import numpy.typing as npt

from service.features.engine.compiled import kernel
from service.features.engine.discretise import GreyLevels
from service.features.engine.region import Bits, Offsets, Region, Voxels, flat_offsets
from service.features.engine.size_matrix import describe_sizes

Counts = npt.NDArray[np.int64]


def describe_dependence(matrix: Counts, levels: GreyLevels) -> dict[str, float]:
    """Compute the features of a dependence matrix.

    Args:
        matrix: (n, m), from `count_dependence`.
        levels: the grey levels of its rows.
    """
    found = describe_sizes(matrix[None], levels.numbers, np.arange(1.0, matrix.shape[1] + 1))
    return {
        "DependenceEntropy": found.entropy,  # FCBV
        "DependenceNonUniformity": found.size_nonuniformity,  # Z87G
        "DependenceNonUniformityNormalized": found.size_nonuniformity_normalised,  # OKJI
        "DependenceVariance": found.size_variance,  # DNX2
        "GrayLevelNonUniformity": found.level_nonuniformity,  # FP8K
        "GrayLevelVariance": found.level_variance,  # 1PFV
        "HighGrayLevelEmphasis": found.high,  # OAE7
        "LargeDependenceEmphasis": found.large,  # IMOQ
        "LargeDependenceHighGrayLevelEmphasis": found.large_high,  # 9QMG
        "LargeDependenceLowGrayLevelEmphasis": found.large_low,  # NBZI
        "LowGrayLevelEmphasis": found.low,  # TL9H
        "SmallDependenceEmphasis": found.small,  # SODN
        "SmallDependenceHighGrayLevelEmphasis": found.small_high,  # JA6D
        "SmallDependenceLowGrayLevelEmphasis": found.small_low,  # EQ3F
    }


def count_dependence(grid: Voxels, levels: GreyLevels, region: Region, offsets: Offsets, alpha: int) -> Counts:
    """Count the voxels of each grey level by their number of dependent neighbours.

    Args:
        grid: ranks with a margin (K, J, I).
        levels: of the same image.
        region: of the same image; its box is the grid without margin.
        offsets: one of each pair of opposite neighbours (A, 3).
        alpha: largest difference of grey levels of a dependent neighbour.

    Returns:
        int64 (n, 2A + 1).
    """
    margin = (grid.shape[0] - region.shape[0]) // 2
    if alpha == 0 and len(offsets) < 128:  # the number of equal neighbours then fits a byte
        steps = flat_offsets(offsets, grid.shape)
        return _count_equal(grid, margin, region.spans, np.concatenate([steps, -steps]), levels.size)
    numbers = np.concatenate([[-1 - alpha], levels.numbers]).astype(np.int64)
    return _count_near(grid, numbers, margin, np.concatenate([offsets, -offsets]), alpha)


@kernel
def _count_equal(grid: Voxels, margin: int, spans: Offsets, steps: Offsets, size: int) -> Counts:
    _, rows, columns = grid.shape
    flat = grid.reshape(-1)
    counts = np.zeros((size + 1, steps.shape[0] + 1), np.int64)
    scratch = np.empty(columns, np.uint8)
    for z in range(spans.shape[0]):
        for y in range(spans.shape[1]):
            start = ((z + margin) * rows + y + margin) * columns + margin + spans[z, y, 0]
            equal = scratch[: spans[z, y, 1] - spans[z, y, 0]]
            equal[:] = 0
            for k in range(steps.shape[0]):
                _add_equal(flat, start, start + steps[k], equal)
            for x in range(equal.shape[0]):
                counts[flat[start + x], equal[x]] += 1
    return counts[1:]


@kernel
def _add_equal(flat: Voxels, start: int, other: int, equal: Bits) -> None:
    """Count equal neighbours of one row; unsigned indices spare Numba a check that bars vector code."""
    here, there = np.uintp(start), np.uintp(other)
    for x in range(np.uintp(equal.shape[0])):
        equal[x] += np.uint8(flat[here + x] == flat[there + x])


@kernel
def _count_near(grid: Voxels, numbers: Counts, margin: int, offsets: Offsets, alpha: int) -> Counts:
    planes, rows, columns = grid.shape
    counts = np.zeros((numbers.shape[0], offsets.shape[0] + 1), np.int64)
    for z in range(margin, planes - margin):
        for y in range(margin, rows - margin):
            for x in range(margin, columns - margin):
                rank = grid[z, y, x]
                if rank == 0:
                    continue
                near = 0
                for k in range(offsets.shape[0]):
                    other = grid[z + offsets[k, 0], y + offsets[k, 1], x + offsets[k, 2]]
                    near += other != 0 and abs(numbers[rank] - numbers[other]) <= alpha
                counts[rank, near] += 1
    return counts[1:]
