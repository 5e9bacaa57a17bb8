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
_BITS, _THIRD = 1.0 / np.log(2.0), 1.0 / 3.0
_LARGEST_SMALL = 1e-3  # up to which four terms of the series of the logarithm are exact
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
    if weights is None:
        every = (_share(np.ascontiguousarray(matrix), symmetrical) for matrix in counts)
        yield from (shares for shares, total in every if total)
        return
    both = [matrix + matrix.T if symmetrical else matrix for matrix in counts]
    merged = np.sum(np.stack(both, axis=-1) * weights, axis=-1)
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
        yield from _count(grid, margin, region.spans, steps[start : start + together], levels.size)[:, 1:, 1:]


@kernel
def _count(grid: Voxels, margin: int, spans: Offsets, steps: Offsets, size: int) -> Counts:
    """Count direction by direction within a row: one matrix at a time then stays in the nearest cache."""
    _, rows, columns = grid.shape
    flat, stride = grid.reshape(-1), size + 1
    counts = np.zeros(steps.shape[0] * stride * stride, np.int64)  # row and column 0 take the outside
    for z in range(spans.shape[0]):
        for y in range(spans.shape[1]):
            start = ((z + margin) * rows + y + margin) * columns + margin + spans[z, y, 0]
            width = spans[z, y, 1] - spans[z, y, 0]
            for k in range(steps.shape[0]):
                _count_row(flat, start, start + steps[k], width, counts, k * stride * stride, stride)
    return counts.reshape(-1, stride, stride)


@kernel
def _count_row(flat: Voxels, start: int, other: int, width: int, counts: Counts, first: int, stride: int) -> None:
    here, there, table, row = np.uintp(start), np.uintp(other), np.uintp(first), np.uintp(stride)
    for x in range(np.uintp(width)):
        counts[table + np.uintp(flat[here + x]) * row + np.uintp(flat[there + x])] += 1


@kernel
def _share(counts: Counts, symmetrical: bool) -> tuple[Doubles, np.int64]:
    """Return the shares of one direction's counts, and how many there are."""
    size, total = counts.shape[0], np.sum(counts)
    both = np.float64(2 * total if symmetrical else total)
    shares = np.empty((size, size))
    for i in range(size):
        for j in range(size):
            shares[i, j] = counts[i, j] + (counts[j, i] if symmetrical else 0)
        shares[i] /= both
    return shares, total


@kernel
def _describe(shares: Doubles, levels: Doubles, top: int) -> Doubles:
    """Compute the features `NAMES` of one direction."""
    size = shares.shape[0]
    rows, columns = np.zeros(size), np.zeros(size)
    sums, differences = np.zeros(2 * top + 1), np.zeros(2 * top - 1)  # of i + j, and of i - j from 1 - n
    autocorrelation, energy, entropy, largest = _marginals(shares, levels, rows, columns, sums, differences)
    row_mean, column_mean = np.sum(rows * levels), np.sum(columns * levels)
    row_variance = np.sum(rows * (levels - row_mean) ** 2)
    column_variance = np.sum(columns * (levels - column_mean) ** 2)
    prominence, shade, tendency = _clusters(sums, row_mean + column_mean)
    spread = np.sqrt(row_variance) * np.sqrt(column_variance)
    covariance = (tendency - _variance(differences, row_mean - column_mean - (1 - top))) / 4
    correlation = 1.0 if spread == 0 else covariance / (spread + EPSILON)
    imc1, imc2 = _information(shares, rows, columns, entropy)
    distances = differences[top - 1 :].copy()
    distances[1:] += differences[: top - 1][::-1]
    near = _nearness(distances, top)
    return np.array(
        [
            autocorrelation,
            prominence,
            shade,
            tendency,
            np.sum(np.arange(top) ** 2 * distances),
            correlation,
            near[0],
            _entropy(distances),
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
            np.sum(np.arange(sums.shape[0]) * sums),
            _entropy(sums),
            row_variance,
        ]
    )


@kernel
def _marginals(
    shares: Doubles, levels: Doubles, rows: Doubles, columns: Doubles, sums: Doubles, differences: Doubles
) -> tuple[float, float, float, float]:
    """Fill the distributions of i, j, i + j and i - j; return autocorrelation, energy, entropy and maximum."""
    autocorrelation, energy, entropy, largest = 0.0, 0.0, 0.0, 0.0
    lower = (differences.shape[0] - 1) // 2
    numbers = levels.astype(np.int64)
    present = np.empty(shares.shape[0])
    for i in range(shares.shape[0]):
        found, weighted = 0, 0.0
        here = numbers[i]
        for j in range(shares.shape[0]):
            share = shares[i, j]
            present[found] = share
            found += share > 0
            columns[j] += share
            sums[here + numbers[j]] += share
            differences[lower + here - numbers[j]] += share
            weighted += share * levels[j]
        for k in range(found):
            share = present[k]
            rows[i] += share
            energy += share * share
            entropy -= share * np.log2(share + EPSILON)
            largest = max(largest, share)
        autocorrelation += weighted * levels[i]
    return autocorrelation, energy, entropy, largest


@kernel
def _clusters(sums: Doubles, mean: float) -> tuple[float, float, float]:
    """Return cluster prominence, shade and tendency: moments of i + j."""
    prominence, shade, tendency = 0.0, 0.0, 0.0
    for k in range(sums.shape[0]):
        centred = k - mean
        square = centred * centred
        prominence += sums[k] * (square * square)
        shade += sums[k] * (square * centred)
        tendency += sums[k] * square
    return prominence, shade, tendency


@kernel
def _variance(shares: Doubles, mean: float) -> float:
    variance = 0.0
    for k in range(shares.shape[0]):
        variance += shares[k] * (k - mean) ** 2
    return variance


@kernel
def _information(shares: Doubles, rows: Doubles, columns: Doubles, entropy: float) -> tuple[float, float]:
    """Return both informational measures of correlation.

    They compare the joint distribution with the product of its marginals, whose logarithm is a sum of two but for
    the epsilon that PyRadiomics adds to the product.
    """
    rows_alone, columns_alone = _pure_entropy(rows), _pure_entropy(columns)
    beyond_crossed, beyond_independent = _beyond(shares, rows, columns)
    crossed = rows_alone + columns_alone - beyond_crossed
    independent = rows_alone * np.sum(columns) + columns_alone * np.sum(rows) - beyond_independent
    widest = max(_entropy(rows), _entropy(columns))
    first = 0.0 if widest == 0 else (entropy - crossed) / widest
    second = 0.0 if independent == entropy else np.sqrt(1 - np.exp(-2 * (independent - entropy)))
    return first, second


@kernel
def _beyond(shares: Doubles, rows: Doubles, columns: Doubles) -> tuple[float, float]:
    """Return the means of log2(1 + epsilon / (p_i p_j)) over the joint distribution and over the product."""
    row_inverses = np.where(rows > 0, EPSILON / rows, 0.0)
    inverses = np.where(columns > 0, 1.0 / columns, 0.0)
    crossed, independent = np.zeros(columns.shape[0]), np.zeros(columns.shape[0])
    short = np.max(row_inverses) * np.max(inverses) < _LARGEST_SMALL
    for i in range(rows.shape[0]):
        unit, row = row_inverses[i], shares[i]
        if short:
            for j in range(columns.shape[0]):
                small = unit * inverses[j]
                logarithm = small * (1.0 - small * (0.5 - small * (_THIRD - small * 0.25))) * _BITS
                crossed[j] += row[j] * logarithm
                independent[j] += rows[i] * columns[j] * logarithm
        else:
            for j in range(columns.shape[0]):
                logarithm = np.log2(1.0 + unit * inverses[j])
                crossed[j] += row[j] * logarithm
                independent[j] += rows[i] * columns[j] * logarithm
    return np.sum(crossed), np.sum(independent)


@kernel
def _pure_entropy(shares: Doubles) -> float:
    entropy = 0.0
    for k in range(shares.shape[0]):
        if shares[k] > 0:
            entropy -= shares[k] * np.log2(shares[k])
    return entropy


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
