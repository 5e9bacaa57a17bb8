"""The co-occurrence features whose digits hang on the last bit.

Imc1 is a quotient of entropies, Imc2 the root of a difference of two, MCC the root of an eigenvalue, ClusterShade a
sum of cubes of both signs. Where the exact value is zero or nearly so, what PyRadiomics reports is the rounding of
its own operations; so here they are done in its order, with the same library calls on arrays of the same layout.

References:
    PyRadiomics 3.0.1, `glcm.RadiomicsGLCM`.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from service.features.engine.compiled import kernel
from service.features.engine.discretise import GreyLevels
from service.features.engine.second_eigenvalue import second_eigenvalue

Doubles = npt.NDArray[np.float64]

EPSILON = np.spacing(1.0)
_SMALL_INFORMATION = 1e-2  # an error of 1e-15 in the entropies then changes Imc2 by 1e-11 of itself at most
_SMALL_ENTROPY = 1e-3  # the same error then changes Imc1, a quotient by no less than half of this, by 1e-12 at most
_SMALL_EIGENVALUE = 1e-4
_LARGEST_OWN = 256  # levels; LAPACK is faster for more
_RELATIVE = 1e-11
_SMALL_SHADE = 1e-4  # of the largest shade that the prominence allows


@dataclass(frozen=True)
class Pairs:
    """Co-occurrence of all directions.

    Attributes:
        shares: p(i, j) (n, n) of each direction in which pairs occur, or of all directions, weighted.
        directions: how many were looked at.
        levels: grey levels of rows and columns.
    """

    shares: list[Doubles]
    directions: int
    levels: GreyLevels

    def laid_out(self) -> Doubles:
        """Return p(i, j) as (1, n, n, A), in memory as PyRadiomics has it after deleting levels and directions.

        NumPy adds up in the order of memory, and `numpy.delete` orders it by how many entries go: none, one or more.
        """
        size, kept = self.levels.size, len(self.shares)
        missing, dropped = min(2, self.levels.top - size), min(2, self.directions - kept)
        stack = np.zeros((1, size + missing, size + missing, kept + dropped))
        stack[0, :size, :size, :kept] = np.stack(self.shares, axis=-1)
        for axis in (1, 2):
            stack = np.delete(stack, np.arange(size, size + missing), axis)
        return np.delete(stack, np.arange(kept, kept + dropped)[None], 3) if dropped else stack


def correct_sensitive(features: dict[str, float], described: dict[str, Doubles], pairs: Pairs) -> None:
    """Recompute Imc1, Imc2 and ClusterShade in place, if they are ill conditioned.

    Args:
        features: averages over directions.
        described: the same of each direction (A,).
        pairs: what they describe.
    """
    if (described["JointEntropy"] < _SMALL_ENTROPY).any():
        features["Imc1"] = _first_information(pairs.laid_out())
    if not (described["Imc2"] > _SMALL_INFORMATION).all():
        features["Imc2"] = _second_information(pairs.laid_out())
    largest = np.mean(described["ClusterProminence"] ** 0.75)
    if abs(features["ClusterShade"]) < _SMALL_SHADE * largest:
        features["ClusterShade"] = _shade(pairs.laid_out(), pairs.levels.numbers)


def _first_information(shares: Doubles) -> float:
    rows, columns = shares.sum(2, keepdims=True), shares.sum(1, keepdims=True)
    joint = -1.0 * np.sum(shares * np.log2(shares + EPSILON), (1, 2))
    crossed = -1.0 * np.sum(shares * np.log2(rows * columns + EPSILON), (1, 2))
    widest = np.fmax(*(-1.0 * np.sum(side * np.log2(side + EPSILON), (1, 2)) for side in (rows, columns)))
    found = joint - crossed
    found[widest != 0] /= widest[widest != 0]
    found[widest == 0] = 0
    return float(np.nanmean(found))


def _second_information(shares: Doubles) -> float:
    product = shares.sum(2, keepdims=True) * shares.sum(1, keepdims=True)
    joint = -1.0 * np.sum(shares * np.log2(shares + EPSILON), (1, 2))
    independent = -1.0 * np.sum(product * np.log2(product + EPSILON), (1, 2))
    with np.errstate(invalid="ignore"):
        found = (1 - np.e ** (-2 * (independent - joint))) ** 0.5
    found[independent == joint] = 0
    defined = found[~np.isnan(found)]
    return float(np.mean(defined)) if len(defined) else np.nan


def _shade(shares: Doubles, levels: Doubles) -> float:
    i, j = levels[None, :, None, None], levels[None, None, :, None]
    row_mean = np.sum(i * shares, (1, 2), keepdims=True)
    column_mean = np.sum(j * shares, (1, 2), keepdims=True)
    return float(np.mean(np.sum(shares * ((i + j - row_mean - column_mean) ** 3), (1, 2))))


def maximal_correlation(pairs: Pairs) -> float:
    """Compute MCC, averaged over directions.

    References:
        Haralick 1973, feature f14: the root of the second largest eigenvalue of
        Q(i, j) = sum_k p(i, k) p(j, k) / (p_x(i) p_y(k)).
    """
    if pairs.levels.size == 1:
        return 1.0 if pairs.shares or pairs.directions > 1 else np.nan
    if not pairs.shares:
        return np.nan
    found = [_symmetric_second(shares) for shares in pairs.shares]
    quick, accurate = (np.array(column) for column in zip(*found, strict=True))
    if np.min(quick) <= _SMALL_EIGENVALUE:
        accurate[:] = False
    try:
        exact = _exact_seconds(pairs, ~accurate)
    except np.linalg.LinAlgError:
        return np.nan
    return _mean_root([exact.get(direction, second) for direction, second in enumerate(quick)])


def _mean_root(seconds: list[np.inexact[Any]]) -> float:
    """Average the roots as PyRadiomics does: of all, if one is complex; else of those that are not negative."""
    with np.errstate(invalid="ignore"):
        roots = np.sqrt(np.array(seconds))
    roots = roots[~np.isnan(roots)]
    return float(np.mean(roots).real) if len(roots) else np.nan


def _symmetric_second(shares: Doubles) -> tuple[float, bool]:
    """Return the second largest eigenvalue of Q, and whether it is PyRadiomics'.

    Scaled by the roots of the marginals Q is symmetric, but for epsilon. The skew part E that epsilon leaves changes
    an eigenvalue by |E|^2 over its distance to the next at most, and a symmetric matrix takes a tenth of the time.
    """
    weighted, scale = _weigh(shares)
    scaled = np.matmul(weighted, shares.T)
    distance = _take_skew(scaled, scale) / _RELATIVE
    if len(shares) <= _LARGEST_OWN:
        return second_eigenvalue(scaled, distance)
    third, second, first = np.linalg.eigvalsh(scaled)[-3:].tolist()
    return second, distance <= second * min(first - second, second - third)


@kernel
def _weigh(shares: Doubles) -> tuple[Doubles, Doubles]:
    """Return p(i, k) / (p_x(i) p_y(k)), times the root of p_x(i), and these roots; 1 for those that are 0."""
    size = shares.shape[0]
    rows, columns = np.zeros(size), np.zeros(size)
    for i in range(size):
        for k in range(size):
            rows[i] += shares[i, k]
            columns[k] += shares[i, k]
    scale = np.sqrt(np.where(rows > 0, rows, 1.0))
    weighted = np.empty((size, size))
    for i in range(size):
        for k in range(size):
            weighted[i, k] = shares[i, k] * scale[i] / (rows[i] * columns[k] + EPSILON)
    return weighted, scale


@kernel
def _take_skew(scaled: Doubles, scale: Doubles) -> float:
    """Divide columns by the scale, leave the symmetric part and return the sum of squares of the skew part."""
    skew = 0.0
    for i in range(scale.shape[0]):
        scaled[i] /= scale
        for j in range(i):
            skew += (scaled[i, j] - scaled[j, i]) ** 2 / 2
            scaled[i, j] = (scaled[i, j] + scaled[j, i]) / 2
            scaled[j, i] = scaled[i, j]
    return skew


def _exact_seconds(pairs: Pairs, wanted: npt.NDArray[np.bool_]) -> dict[int, np.inexact[Any]]:
    """Return the second largest eigenvalue of the wanted directions, complex where rounding has made any so."""
    if not wanted.any():
        return {}
    laid_out = pairs.laid_out()
    rows, columns = laid_out.sum(2)[0], laid_out.sum(1)[0]  # (n, A)
    found: dict[int, np.inexact[Any]] = {}
    for direction in np.flatnonzero(wanted).tolist():
        shares = pairs.shares[direction]
        transitions = _transitions(
            shares,
            np.ascontiguousarray(shares.T),
            np.ascontiguousarray(rows[:, direction]),
            np.ascontiguousarray(columns[:, direction]),
        )
        found[direction] = np.sort(np.linalg.eigvals(transitions))[-2]
    return found


@kernel
def _transitions(shares: Doubles, transposed: Doubles, rows: Doubles, columns: Doubles) -> Doubles:
    """Compute Q (n, n), adding up over k in turn."""
    size = shares.shape[0]
    found = np.zeros((size, size))
    for k in range(size):
        for i in range(size):
            share = shares[i, k]
            if share > 0:
                scale = rows[i] * columns[k] + EPSILON
                for j in range(size):
                    found[i, j] += share * transposed[k, j] / scale
    return found
