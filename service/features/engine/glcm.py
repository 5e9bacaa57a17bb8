"""Grey level co-occurrence matrix: PyRadiomics' class `glcm`.

Features are computed for each direction and averaged. `glcm_sensitive` recomputes the few whose digits hang on
the last bit.

References:
    Haralick, Shanmugam, Dinstein, "Textural features for image classification", IEEE Trans. SMC 3(6), 1973.
    IBSI reference manual, section 3.6.
    PyRadiomics 3.0.1, `glcm.RadiomicsGLCM`.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from service.features.engine.compiled import kernel
from service.features.engine.discretise import GreyLevels
from service.features.engine.glcm_sensitive import Pairs, correct_sensitive, maximal_correlation
from service.features.engine.options import Weighting
from service.features.engine.region import Offsets, Region, Voxels, flat_offsets

Doubles = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

EPSILON = np.spacing(1.0)
_TOGETHER = 1 << 22  # cells of all directions' matrices that are counted in one scan

NAMES = (
    "Autocorrelation",  # QWB0
    "ClusterProminence",  # AE86
    "ClusterShade",  # 7NFM
    "ClusterTendency",  # DG8W
    "Contrast",  # ACUI
    "Correlation",  # NI2N
    "DifferenceAverage",  # TF7R
    "DifferenceEntropy",  # NTRS
    "DifferenceVariance",  # D3YU
    "Id",  # IB1Z
    "Idm",  # WF0Z
    "Idmn",  # 1QCO
    "Idn",  # NDRX
    "Imc1",  # R8DG
    "Imc2",  # JN9H
    "InverseVariance",  # E8JP
    "JointAverage",  # 60VM
    "JointEnergy",  # 8ZQL
    "JointEntropy",  # TU9B
    "MaximumProbability",  # GYBY
    "SumAverage",  # ZGXS
    "SumEntropy",  # P6QZ
    "SumSquares",  # UR99
)
"""The features of one direction; MCC (no IBSI code) follows from all directions together."""


def describe_pairs(matrices: Iterator[Doubles], directions: int, levels: GreyLevels) -> dict[str, float]:
    """Compute the features, averaged over directions; NaN where no direction is left.

    Args:
        matrices: shares p(i, j) (n, n) of each direction in which pairs occur.
        directions: how many directions were looked at; a single one is kept even if it is empty.
        levels: the grey levels of the rows and columns.
    """
    shares = list(matrices)
    table = np.array([_describe(matrix, levels.numbers, levels.top) for matrix in shares]).reshape(-1, len(NAMES))
    features = dict(zip(NAMES, _means(table), strict=True))
    pairs = Pairs(shares, directions, levels)
    if shares:
        correct_sensitive(features, dict(zip(NAMES, table.T, strict=True)), pairs)
    elif directions == 1 and levels.size == 1:
        features["InverseVariance"] = 0.0  # PyRadiomics sums over no distance at all
    features["MCC"] = maximal_correlation(pairs)
    return features


def _means(described: Doubles) -> list[float]:
    """Average each column, without the Imc2 that rounding has made a root of a negative number."""
    if not len(described):
        return [np.nan] * len(NAMES)
    defined = ~np.isnan(described)
    with np.errstate(invalid="ignore"):
        means: list[float] = (np.where(defined, described, 0.0).sum(axis=0) / defined.sum(axis=0)).tolist()
    return means


def pair_weights(offsets: Offsets, spacing: tuple[float, float, float], norm: Weighting | None) -> Doubles | None:
    """Return the weight exp(-length^2) of each direction (A,), length in mm under the norm; None for no norm."""
    if norm is None:
        return None
    steps = np.abs(offsets) * np.array(spacing)
    if norm == "infinity":
        return np.asarray(np.exp(-(steps.max(axis=1) ** 2)))
    if norm == "euclidean":
        return np.asarray(np.exp(-np.sum(steps**2, axis=1)))
    if norm == "manhattan":
        return np.asarray(np.exp(-(np.sum(steps, axis=1) ** 2)))
    return np.ones(len(offsets))


def share_pairs(
    counts: Iterator[Counts], levels: GreyLevels, symmetrical: bool, weights: Doubles | None
) -> Iterator[Doubles]:
    """Turn counts into shares: one matrix for each direction with pairs, or one for all, weighted.

    Args:
        counts: int64 (n, n) of each direction, from `count_pairs`.
        levels: of rows and columns.
        symmetrical: whether a pair counts in both orders.
        weights: (A,), from `pair_weights`, or None.
    """
    both = (matrix + matrix.T if symmetrical else matrix for matrix in counts)
    if weights is None:
        yield from (matrix / matrix.sum() for matrix in both if matrix.any())
        return
    merged = np.sum(np.stack(list(both), axis=-1) * weights, axis=-1)
    if merged.any():
        yield merged / np.sum(Pairs([merged], 1, levels).laid_out(), (1, 2)).item()


def count_pairs(grid: Voxels, levels: GreyLevels, region: Region, offsets: Offsets) -> Iterator[Counts]:
    """Count pairs of neighbours by their levels, for each direction int64 (n, n).

    Args:
        grid: ranks with a margin (K, J, I).
        levels: of the same image.
        region: of the same image; its box is the grid without margin.
        offsets: directions (A, 3).
    """
    margin = (grid.shape[0] - region.shape[0]) // 2
    steps = flat_offsets(offsets, grid.shape)
    together = max(1, _TOGETHER // (levels.size + 1) ** 2)
    for start in range(0, len(steps), together):
        yield from _count(grid, margin, steps[start : start + together], levels.size)[:, 1:, 1:]


@kernel
def _count(grid: Voxels, margin: int, steps: Offsets, size: int) -> Counts:
    planes, rows, columns = grid.shape
    flat = grid.reshape(-1)
    counts = np.zeros((steps.shape[0], size + 1, size + 1), np.int64)  # row and column 0 take the outside
    for z in range(margin, planes - margin):
        for y in range(margin, rows - margin):
            start = (z * rows + y) * columns
            for p in range(start + margin, start + columns - margin):
                if flat[p]:
                    for k in range(steps.shape[0]):
                        counts[k, flat[p], flat[p + steps[k]]] += 1
    return counts


@kernel
def _describe(shares: Doubles, levels: Doubles, top: int) -> Doubles:
    """Compute the features `NAMES` of one direction; sums run row by row, as in PyRadiomics."""
    size = shares.shape[0]
    rows, columns = np.zeros(size), np.zeros(size)
    sums, differences = np.zeros(2 * top + 1), np.zeros(top)
    moments = _marginals(shares, levels, rows, columns, sums, differences)
    autocorrelation, energy, entropy, largest, row_mean, column_mean = moments
    prominence, shade, tendency, contrast, covariance = _central(shares, levels, row_mean, column_mean)
    row_variance = np.sum(rows * (levels - row_mean) ** 2)
    column_variance = np.sum(columns * (levels - column_mean) ** 2)
    spread = np.sqrt(row_variance) * np.sqrt(column_variance)
    correlation = 1.0 if spread == 0 else covariance / (spread + EPSILON)
    imc1, imc2 = _information(shares, rows, columns, entropy)
    near = _nearness(differences, top)
    sum_levels = np.arange(sums.shape[0])
    return np.array(
        [
            autocorrelation,
            prominence,
            shade,
            tendency,
            contrast,
            correlation,
            near[0],
            _entropy(differences),
            near[1],
            near[2],
            near[3],
            near[4],
            near[5],
            imc1,
            imc2,
            near[6],
            row_mean,
            energy,
            entropy,
            largest,
            np.sum(sum_levels * sums),
            _entropy(sums[2:]),
            row_variance,
        ]
    )


@kernel
def _marginals(
    shares: Doubles, levels: Doubles, rows: Doubles, columns: Doubles, sums: Doubles, differences: Doubles
) -> tuple[float, float, float, float, float, float]:
    """Fill the distributions of i, j, i + j and |i - j|; return autocorrelation, energy, entropy, maximum, means."""
    autocorrelation, energy, entropy, largest, row_mean, column_mean = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(shares.shape[0]):
        for j in range(shares.shape[0]):
            share = shares[i, j]
            if share > 0:
                rows[i] += share
                columns[j] += share
                sums[int(levels[i] + levels[j])] += share
                differences[int(abs(levels[i] - levels[j]))] += share
                autocorrelation += share * (levels[i] * levels[j])
                energy += share * share
                entropy -= share * np.log2(share + EPSILON)
                largest = max(largest, share)
                row_mean += levels[i] * share
                column_mean += levels[j] * share
    return autocorrelation, energy, entropy, largest, row_mean, column_mean


@kernel
def _central(
    shares: Doubles, levels: Doubles, row_mean: float, column_mean: float
) -> tuple[float, float, float, float, float]:
    """Return cluster prominence, shade and tendency, contrast and covariance."""
    prominence, shade, tendency, contrast, covariance = 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(shares.shape[0]):
        for j in range(shares.shape[0]):
            share = shares[i, j]
            if share > 0:
                centred = levels[i] + levels[j] - row_mean - column_mean
                square = centred * centred
                prominence += share * (square * square)
                shade += share * (square * centred)
                tendency += share * square
                contrast += share * (levels[i] - levels[j]) ** 2
                covariance += share * (levels[i] - row_mean) * (levels[j] - column_mean)
    return prominence, shade, tendency, contrast, covariance


@kernel
def _information(shares: Doubles, rows: Doubles, columns: Doubles, entropy: float) -> tuple[float, float]:
    """Return both informational measures of correlation."""
    crossed, independent = 0.0, 0.0
    for i in range(shares.shape[0]):
        if rows[i] > 0:
            for j in range(shares.shape[0]):
                product = rows[i] * columns[j]
                if product > 0:
                    logarithm = np.log2(product + EPSILON)
                    crossed -= shares[i, j] * logarithm
                    independent -= product * logarithm
    widest = max(_entropy(rows), _entropy(columns))
    first = 0.0 if widest == 0 else (entropy - crossed) / widest
    second = 0.0 if independent == entropy else np.sqrt(1 - np.exp(-2 * (independent - entropy)))
    return first, second


@kernel
def _entropy(shares: Doubles) -> float:
    entropy = 0.0
    for k in range(shares.shape[0]):
        if shares[k] > 0:
            entropy -= shares[k] * np.log2(shares[k] + EPSILON)
    return entropy


@kernel
def _nearness(differences: Doubles, top: int) -> tuple[float, float, float, float, float, float, float]:
    """Return difference average and variance, Id, Idm, Idmn, Idn and inverse variance."""
    average, distance, moment, moment_normalised, normalised, inverse = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for k in range(differences.shape[0]):
        share = differences[k]
        if share > 0:
            average += k * share
            distance += share / (1.0 + k)
            moment += share / (1.0 + k * k)
            moment_normalised += share / (1.0 + k * k / (top * top))
            normalised += share / (1.0 + k / top)
            if k > 0:
                inverse += share / (k * k)
    variance = 0.0
    for k in range(differences.shape[0]):
        variance += differences[k] * (k - average) ** 2
    return average, variance, distance, moment, moment_normalised, normalised, inverse
