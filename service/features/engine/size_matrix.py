"""What GLRLM, GLSZM and GLDM have in common.

Each counts things (runs, zones, voxels) by grey level i and by a size j (length, volume, number of dependent
neighbours), and describes the counts with the same formulas under different names.

References:
    IBSI reference manual, sections 3.7 (run length), 3.8 (size zone) and 3.10 (neighbouring grey level dependence).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]

EPSILON = np.spacing(1)


@dataclass(frozen=True)
class SizeStatistics:
    """Sums over a matrix P(i, j), one value for each matrix of a stack: float64 (A,).

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

    small: Doubles
    large: Doubles
    low: Doubles
    high: Doubles
    small_low: Doubles
    small_high: Doubles
    large_low: Doubles
    large_high: Doubles
    level_nonuniformity: Doubles
    level_nonuniformity_normalised: Doubles
    size_nonuniformity: Doubles
    size_nonuniformity_normalised: Doubles
    percentage: Doubles
    level_variance: Doubles
    size_variance: Doubles
    entropy: Doubles


def describe_sizes(matrices: Doubles, levels: Doubles, sizes: Doubles) -> SizeStatistics:
    """Describe each matrix of a stack.

    Args:
        matrices: counts or weighted counts (A, n, m).
        levels: grey level of each row (n,), from 1.
        sizes: size of each column (m,), from 1.
    """
    by_level, by_size = matrices.sum(axis=2), matrices.sum(axis=1)  # (A, n), (A, m)
    total = by_level.sum(axis=1)  # (A,)
    total[total == 0] = np.nan
    i2, j2 = levels**2, sizes**2
    low, high = np.tensordot(matrices, np.stack([1 / i2, i2]), axes=(1, 1)).transpose(2, 0, 1)  # each (A, m)
    return SizeStatistics(
        small=(by_size / j2).sum(axis=1) / total,
        large=(by_size * j2).sum(axis=1) / total,
        low=(by_level / i2).sum(axis=1) / total,
        high=(by_level * i2).sum(axis=1) / total,
        small_low=(low / j2).sum(axis=1) / total,
        small_high=(high / j2).sum(axis=1) / total,
        large_low=(low * j2).sum(axis=1) / total,
        large_high=(high * j2).sum(axis=1) / total,
        level_nonuniformity=(by_level**2).sum(axis=1) / total,
        level_nonuniformity_normalised=(by_level**2).sum(axis=1) / total**2,
        size_nonuniformity=(by_size**2).sum(axis=1) / total,
        size_nonuniformity_normalised=(by_size**2).sum(axis=1) / total**2,
        percentage=total / (by_size * sizes).sum(axis=1),
        level_variance=_variance(by_level / total[:, None], levels),
        size_variance=_variance(by_size / total[:, None], sizes),
        entropy=_entropy(matrices / total[:, None, None]),
    )


def _variance(shares: Doubles, values: Doubles) -> Doubles:
    means = (shares * values).sum(axis=1, keepdims=True)
    variance: Doubles = (shares * (values - means) ** 2).sum(axis=1)
    return variance


def _entropy(shares: Doubles) -> Doubles:
    entropy: Doubles = -(shares * np.log2(shares + EPSILON)).sum(axis=(1, 2))
    return entropy
