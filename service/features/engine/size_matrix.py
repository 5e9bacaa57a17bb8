"""What GLRLM, GLSZM and GLDM have in common.

Each counts things (runs, zones, voxels) by grey level i and by a size j (length, volume, number of dependent
neighbours), and describes the counts with the same formulas under different names.

References:
    IBSI reference manual, sections 3.7 (run length), 3.8 (size zone) and 3.10 (neighbouring grey level dependence).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from service.features.engine.compiled import kernel

Doubles = npt.NDArray[np.float64]
Numbers = npt.NDArray[Any]
"""Counts, or weighted counts: int64 or float64."""

EPSILON = np.spacing(1)


@dataclass(frozen=True)
class SizeStatistics:
    """Sums over a matrix P(i, j), averaged over the matrices of a stack; mostly NaN where one is empty.

    Attributes:
        small: small sizes, sum P / j^2 / N.
        large: large sizes, sum P j^2 / N.
        low: low grey levels, sum P / i^2 / N.
        high: high grey levels, sum P i^2 / N.
        small_low, small_high, large_low, large_high: both weights at once.
        level_nonuniformity: sum_i (sum_j P)^2 / N.
        level_nonuniformity_normalised: the same over N^2.
        size_nonuniformity: sum_j (sum_i P)^2 / N.
        size_nonuniformity_normalised: the same over N^2.
        percentage: N over the sum of all sizes.
        level_variance: variance of i under P / N.
        size_variance: variance of j under P / N.
        entropy: - sum p log2(p + epsilon), p = P / N.
    """

    small: float
    large: float
    low: float
    high: float
    small_low: float
    small_high: float
    large_low: float
    large_high: float
    level_nonuniformity: float
    level_nonuniformity_normalised: float
    size_nonuniformity: float
    size_nonuniformity_normalised: float
    percentage: float
    level_variance: float
    size_variance: float
    entropy: float


_STATISTICS = len(SizeStatistics.__dataclass_fields__)


def describe_sizes(matrices: Numbers, levels: Doubles, sizes: Doubles) -> SizeStatistics:
    """Describe the matrices of a stack.

    Args:
        matrices: counts or weighted counts (A, n, m).
        levels: grey level of each row (n,), from 1.
        sizes: size of each column (m,), from 1.
    """
    if not len(matrices):
        return SizeStatistics(*[np.nan] * _STATISTICS)
    contiguous: Numbers = np.ascontiguousarray(matrices)
    return SizeStatistics(*_describe(contiguous, levels, sizes).tolist())


@kernel
def _describe(matrices: Numbers, levels: Doubles, sizes: Doubles) -> Doubles:
    """Return the statistics in the order of their names, averaged over the stack (16,)."""
    found = np.zeros(_STATISTICS)
    for a in range(matrices.shape[0]):
        found += _describe_one(matrices[a], levels, sizes)
    means: Doubles = found / matrices.shape[0]
    return means


@kernel
def _describe_one(matrix: Numbers, levels: Doubles, sizes: Doubles) -> Doubles:
    by_size = np.zeros(sizes.shape[0])
    for i in range(levels.shape[0]):
        for j in range(sizes.shape[0]):
            by_size[j] += matrix[i, j]
    total = np.sum(by_size)
    if total == 0:
        nothing = np.full(_STATISTICS, np.nan)
        nothing[-2:] = 0.0  # size variance and entropy: PyRadiomics sums over no size at all
        return nothing
    used = sizes.shape[0]
    while by_size[used - 1] == 0:
        used -= 1
    by_size, sizes = by_size[:used], sizes[:used]
    by_level, low, high = _weigh(matrix[:, :used], levels)
    squares = sizes * sizes
    level_squares, size_squares = np.sum(by_level * by_level), np.sum(by_size * by_size)
    return np.array(
        [
            np.sum(by_size / squares) / total,
            np.sum(by_size * squares) / total,
            np.sum(low) / total,
            np.sum(high) / total,
            np.sum(low / squares) / total,
            np.sum(high / squares) / total,
            np.sum(low * squares) / total,
            np.sum(high * squares) / total,
            level_squares / total,
            level_squares / (total * total),
            size_squares / total,
            size_squares / (total * total),
            total / np.sum(by_size * sizes),
            _variance(by_level / total, levels),
            _variance(by_size / total, sizes),
            _entropy(matrix[:, :used], total),
        ]
    )


@kernel
def _weigh(matrix: Numbers, levels: Doubles) -> tuple[Doubles, Doubles, Doubles]:
    """Return sums over sizes (n,), and sums over levels i weighted by 1 / i^2 and by i^2 (m,)."""
    by_level, low, high = np.zeros(matrix.shape[0]), np.zeros(matrix.shape[1]), np.zeros(matrix.shape[1])
    for i in range(matrix.shape[0]):
        square = levels[i] * levels[i]
        for j in range(matrix.shape[1]):
            if matrix[i, j]:
                number = np.float64(matrix[i, j])
                by_level[i] += number
                low[j] += number / square
                high[j] += number * square
    return by_level, low, high


@kernel
def _variance(shares: Doubles, values: Doubles) -> float:
    mean = np.sum(shares * values)
    variance: float = np.sum(shares * (values - mean) ** 2)
    return variance


@kernel
def _entropy(matrix: Numbers, total: float) -> float:
    entropy = 0.0
    for i in range(matrix.shape[0]):
        for j in range(matrix.shape[1]):
            if matrix[i, j]:
                share = matrix[i, j] / total
                entropy -= share * np.log2(share + EPSILON)
    return entropy
