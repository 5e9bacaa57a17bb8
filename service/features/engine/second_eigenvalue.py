"""The second largest eigenvalue of a symmetric matrix, and nothing else of it.

Householder's reflections make the matrix tridiagonal; Sylvester's law of inertia then counts the eigenvalues above
a number, for several numbers side by side, and narrows an interval down to rounding.

References:
    Golub, Van Loan, "Matrix Computations", sections 8.3 (tridiagonalisation) and 8.4 (bisection).
"""

import numpy as np
import numpy.typing as npt

from service.features.engine.compiled import kernel

Doubles = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

_SIDES = 8  # numbers looked at side by side
_ROUNDS = 17  # each leaves a ninth of the interval: 9^-17 is below the rounding of one
_TOP = 1.5


@kernel
def second_eigenvalue(matrix: Doubles, distance: float) -> tuple[float, bool]:
    """Find the second largest eigenvalue.

    Args:
        matrix: symmetric (n, n), n at least 2, largest eigenvalue below 1.5; it is overwritten.
        distance: wanted from the other eigenvalues, times the eigenvalue found.

    Returns:
        The eigenvalue, and whether no other lies within `distance` over the eigenvalue; 0 for one that is negative.
    """
    diagonal, squares = _tridiagonalise(matrix)
    shifts, pivots, counts = np.empty(_SIDES), np.empty(_SIDES), np.empty(_SIDES, np.int64)
    low, width = 0.0, _TOP
    for _ in range(_ROUNDS):
        width /= _SIDES + 1
        for side in range(_SIDES):
            shifts[side] = low + width * (side + 1)
        _count_above(diagonal, squares, shifts, pivots, counts)
        low += width * np.sum(counts >= 2)
    second = low + width / 2
    gap = distance / second
    shifts[:] = second + gap
    shifts[0] = second - gap
    _count_above(diagonal, squares, shifts, pivots, counts)
    return second, counts[0] <= 2 and counts[1] >= 1


@kernel
def _tridiagonalise(matrix: Doubles) -> tuple[Doubles, Doubles]:
    """Return the diagonal, and the squares of what couples each of its entries to the one before."""
    size = matrix.shape[0]
    diagonal, squares = np.empty(size), np.zeros(size)
    flat, axis, moved = matrix.reshape(-1), np.empty(size), np.empty(size)
    for k in range(size - 2):
        count = size - k - 1
        for j in range(count):
            axis[j] = matrix[k, k + 1 + j]
        head, length = axis[0], _dot(axis, axis, count)
        diagonal[k], squares[k + 1] = matrix[k, k], length
        if length > head * head:
            axis[0] += np.copysign(np.sqrt(length), head)
            factor = 2.0 / (length - head * head + axis[0] * axis[0])
            _reflect(flat, (k + 1) * (size + 1), size, axis, moved, count, factor)
    diagonal[size - 2], diagonal[size - 1] = matrix[size - 2, size - 2], matrix[size - 1, size - 1]
    squares[size - 1] = matrix[size - 2, size - 1] ** 2
    return diagonal, squares


@kernel
def _reflect(flat: Doubles, first: int, size: int, axis: Doubles, moved: Doubles, count: int, factor: float) -> None:
    """Replace a symmetric part R of a matrix, `count` rows from the flat index, by H R H, H = 1 - factor axis axis^T.

    Unsigned indices spare Numba a check that bars vector code.
    """
    columns = np.uintp(count)
    for j in range(columns):
        moved[j] = 0.0
    for i in range(count):
        row, weight = np.uintp(first + i * size), axis[i] * factor
        for j in range(columns):
            moved[j] += weight * flat[row + j]
    back = 0.5 * factor * _dot(moved, axis, count)
    for j in range(columns):
        moved[j] -= back * axis[j]
    for i in range(count):
        row, one, other = np.uintp(first + i * size), axis[i], moved[i]
        for j in range(columns):
            flat[row + j] -= one * moved[j] + other * axis[j]


@kernel
def _dot(one: Doubles, other: Doubles, size: int) -> float:
    """Add up in four parts, which do not wait for each other."""
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    whole = size - size % 4
    for k in range(0, whole, 4):
        a += one[k] * other[k]
        b += one[k + 1] * other[k + 1]
        c += one[k + 2] * other[k + 2]
        d += one[k + 3] * other[k + 3]
    for k in range(whole, size):
        a += one[k] * other[k]
    return (a + b) + (c + d)


@kernel
def _count_above(diagonal: Doubles, squares: Doubles, shifts: Doubles, pivots: Doubles, counts: Counts) -> None:
    """Count the eigenvalues above each shift: the positive pivots of the matrix less the shift."""
    pivots[:] = 1.0
    counts[:] = 0
    for k in range(diagonal.shape[0]):
        entry, square = diagonal[k], squares[k]
        for side in range(_SIDES):
            pivot = entry - shifts[side] - square / pivots[side]
            pivots[side] = pivot if pivot != 0.0 else -1e-300
            counts[side] += pivot > 0.0
