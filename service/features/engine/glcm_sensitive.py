"""The co-occurrence features whose digits hang on the last bit.

Imc2 is the root of a difference of two entropies, MCC the root of an eigenvalue, ClusterShade a sum of cubes of
both signs. Where the exact value is zero or nearly so, what PyRadiomics reports is the rounding of its own
operations; so here they are done in its order, with the same library calls.

References:
    PyRadiomics 3.0.1, `glcm.RadiomicsGLCM`; NumPy's reductions: rows in turn where several directions are
    stacked, pairwise where there is a single one.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from service.features.engine.compiled import kernel

Doubles = npt.NDArray[np.float64]

EPSILON = np.spacing(1.0)
_SMALL_INFORMATION = 1e-2  # an error of 1e-15 in the entropies then changes Imc2 by 1e-11 of itself at most
_LEAST_SYMMETRIC = 16  # levels; for fewer the exact way is as fast
_TOGETHER = 1 << 20  # cells of matrices that are decomposed in one call
_SMALL_EIGENVALUE = 1e-4
_RELATIVE = 1e-12
_SMALL_SHADE = 1e-4  # of the largest shade that the prominence allows


def correct_sensitive(
    features: Doubles, shares: Doubles, levels: Doubles, in_turn: bool, names: tuple[str, ...]
) -> None:
    """Recompute Imc2 and ClusterShade of one direction in place, if they are ill conditioned.

    Args:
        features: (F,), as named by `names`.
        shares: p(i, j) (n, n).
        levels: grey levels (n,).
        in_turn: whether sums run row by row.
        names: of the features.
    """
    imc2 = names.index("Imc2")
    if not features[imc2] > _SMALL_INFORMATION:
        features[imc2] = _second_information(shares, in_turn)
    shade = names.index("ClusterShade")
    if abs(features[shade]) < _SMALL_SHADE * features[names.index("ClusterProminence")] ** 0.75:
        features[shade] = _shade(shares, levels, in_turn)


def _second_information(shares: Doubles, in_turn: bool) -> float:
    rows, columns = _marginals(shares, in_turn)
    product = rows[:, None] * columns[None, :]
    joint = -1.0 * _total(shares * np.log2(shares + EPSILON), in_turn)
    independent = -1.0 * _total(product * np.log2(product + EPSILON), in_turn)
    if independent == joint:
        return 0.0
    with np.errstate(invalid="ignore"):
        return float(((1 - np.e ** np.array([-2 * (independent - joint)])) ** 0.5)[0])


def _shade(shares: Doubles, levels: Doubles, in_turn: bool) -> float:
    i, j = levels[:, None], levels[None, :]
    row_mean, column_mean = _total(i * shares, in_turn), _total(j * shares, in_turn)
    return _total(shares * ((i + j - row_mean - column_mean) ** 3), in_turn)


def _marginals(shares: Doubles, in_turn: bool) -> tuple[Doubles, Doubles]:
    rows = np.add.accumulate(shares, axis=1)[:, -1] if in_turn else shares.sum(axis=1)
    return rows, shares.sum(axis=0)


def _total(terms: Doubles, in_turn: bool) -> float:
    return float(np.add.accumulate(terms.ravel())[-1] if in_turn else np.sum(terms))


def maximal_correlation(shares: list[Doubles], size: int, directions: int) -> float:
    """Compute MCC, averaged over directions.

    Args:
        shares: p(i, j) (n, n) of each direction in which pairs occur.
        size: number of grey levels n.
        directions: how many directions were looked at.

    References:
        Haralick 1973, feature f14: the root of the second largest eigenvalue of
        Q(i, j) = sum_k p(i, k) p(j, k) / (p_x(i) p_y(k)).
    """
    if size == 1:
        return 1.0 if shares or directions > 1 else np.nan
    if not shares:
        return np.nan
    if size >= _LEAST_SYMMETRIC:
        together = max(1, _TOGETHER // size**2)
        parts = [np.stack(shares[first : first + together]) for first in range(0, len(shares), together)]
        seconds = np.concatenate([_well_conditioned_seconds(part) for part in parts])
        if not np.isnan(seconds).any():
            return float(np.mean(np.sqrt(seconds)))
    try:
        return _mean_root([_second_eigenvalue(matrix, directions > 1) for matrix in shares])
    except np.linalg.LinAlgError:
        return np.nan


def _mean_root(seconds: list[np.inexact[Any]]) -> float:
    """Average the roots as PyRadiomics does: of all, if one is complex; else of those that are not negative."""
    with np.errstate(invalid="ignore"):
        roots = np.sqrt(np.array(seconds))
    roots = roots[~np.isnan(roots)]
    return float(np.mean(roots).real) if len(roots) else np.nan


def _well_conditioned_seconds(shares: Doubles) -> Doubles:
    """Return the second largest eigenvalue of each Q (A,), or NaN where it may differ from PyRadiomics'.

    Scaled by the roots of the marginals Q is symmetric, but for epsilon. The skew part E that epsilon leaves changes
    an eigenvalue by |E|^2 over its distance to the next at most, and a symmetric matrix takes a tenth of the time.

    Args:
        shares: p(i, j) (A, n, n).
    """
    rows, columns = shares.sum(axis=2), shares.sum(axis=1)
    scale = np.sqrt(np.where(rows > 0, rows, 1.0))
    weighted = shares / (rows[:, :, None] * columns[:, None, :] + EPSILON)
    scaled = scale[:, :, None] * np.matmul(weighted, shares.transpose(0, 2, 1)) / scale[:, None, :]
    turned = scaled.transpose(0, 2, 1)
    third, second, first = np.linalg.eigvalsh((scaled + turned) / 2)[:, -3:].T
    skew = np.sum((scaled - turned) ** 2, axis=(1, 2)) / 4
    accurate = skew <= _RELATIVE * second * np.minimum(first - second, second - third)
    return np.where((second > _SMALL_EIGENVALUE) & accurate, second, np.nan)


def _second_eigenvalue(shares: Doubles, in_turn: bool) -> np.inexact[Any]:
    """Return the second largest eigenvalue of Q, complex where rounding has made any of them so."""
    rows, columns = _marginals(shares, in_turn)
    eigenvalues = np.linalg.eigvals(_transitions(shares, np.ascontiguousarray(shares.T), rows, columns))
    second: np.inexact[Any] = np.sort(eigenvalues)[-2]
    return second


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
