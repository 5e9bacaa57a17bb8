"""Laplacian of Gaussian of the region's box: PyRadiomics' image type `LoG`.

PyRadiomics filters the whole image with ITK's recursive Gaussian, whose impulse response never ends but fades by
a factor of four with each sigma. What lies `REACH` sigmas from the box weighs less than the rounding of the filter
itself, where distances along the axes add up: responses of several passes multiply. So only that neighbourhood,
an octahedron grown around the box, is filtered, and each pass keeps only what later ones need.

References:
    Deriche, "Recursively implementing the Gaussian and its derivatives", INRIA report 1893, 1993.
    Farneback, Westin, "Improving Deriche-style recursive Gaussian filters", J. Math. Imaging Vis. 26, 2006.
    ITK 5, `RecursiveGaussianImageFilter` and `LaplacianRecursiveGaussianImageFilter`: orders of operations, single
    precision between passes and double precision within.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.features.engine.compiled import kernel
from service.features.engine.options import Number
from service.features.engine.region import Box, Spacing, Voxels

Singles = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

_Margin = tuple[int, int, Doubles]
"""An axis of a crop: the box's first index and extent, and how far each index lies outside, in parts of the reach."""

REACH = 24
"""Sigmas of margin, after which the impulse response has fallen below 1e-14 of its peak."""

_EXTRA = 4  # voxels: the recursion starts from four values taken as constant
_WIDTH = 32  # lines filtered side by side
_TILE = 16
_FREQUENCIES = (0.6681, 2.0787)
_DECAYS = (-1.3932, -1.3732)
# Weights (A1, B1, A2, B2) of cosines and sines that fit the Gaussian and its second derivative.
_SMOOTHING = (1.3530, 1.8151, -0.3531, 0.0902)
_CURVATURE = (-1.3563, 5.2318, 0.3446, -2.2355)


def log_name(sigma: Number) -> str:
    """Return PyRadiomics' name of the derived image; `sigma` in mm shows as it was written."""
    return f"log-sigma-{str(sigma).replace('.', '-')}-mm-3D"


def fits(shape: tuple[int, ...], spacing: Spacing, sigma: Number) -> bool:
    """Tell whether PyRadiomics filters an image of this shape (voxels) and spacing (mm) with this sigma (mm)."""
    least = min(shape)
    return least >= 4 and all(size >= math.ceil(sigma / step) + 1 for size, step in zip(shape, spacing, strict=True))


def laplacian(image: Voxels, box: Box, spacing: Spacing, sigma: Number) -> Singles:
    """Filter the image around a box.

    Args:
        image: (K, J, I), the whole image.
        box: where the result is wanted.
        spacing: mm along (K, J, I).
        sigma: of the Gaussian, mm.

    Returns:
        float32, the box.
    """
    reaches = tuple(REACH * float(sigma) / step for step in spacing)
    crop, firsts = _surroundings(image, box, reaches)
    total = np.zeros(box.shape, dtype=np.float32)
    for axis in (2, 1, 0):  # ITK adds x, y and z in this order
        part = crop
        for step in (axis, *(other for other in (2, 1, 0) if other != axis)):
            coefficients = recursive_coefficients(float(sigma), spacing[step], 2 if step == axis else 0)
            part = _filter(part, step, coefficients, _margins(part.shape, box, firsts, reaches), reaches[step])
        _accumulate(total, part, 1.0 / spacing[axis] ** 2)
    return total


def _surroundings(image: Voxels, box: Box, reaches: tuple[float, ...]) -> tuple[Voxels, tuple[int, ...]]:
    """Return the part of the image that the filter sees, in a type that holds it, and the box's first index in it."""
    slices, firsts = [], []
    for size, low, extent, reach in zip(image.shape, box.lower, box.shape, reaches, strict=True):
        margin = math.ceil(reach) + _EXTRA
        start = max(0, low - margin)
        slices.append(slice(start, min(size, low + extent + margin)))
        firsts.append(low - start)
    crop = image[tuple(slices)]
    exact = crop.dtype == np.float32 or (crop.dtype.kind in "iu" and crop.dtype.itemsize <= 2)
    return np.ascontiguousarray(crop, dtype=np.float32 if exact else np.float64), tuple(firsts)


def _margins(
    shape: tuple[int, ...], box: Box, firsts: tuple[int, ...], reaches: tuple[float, ...]
) -> tuple[_Margin, _Margin, _Margin]:
    """Describe each axis of a partly filtered crop: an axis that has been filtered has shrunk to the box."""
    margins = []
    for size, extent, first, reach in zip(shape, box.shape, firsts, reaches, strict=True):
        start = 0 if size == extent else first
        outside = np.maximum(0, np.maximum(start - np.arange(size), np.arange(size) - (start + extent - 1)))
        margins.append((start, extent, outside / reach))
    return margins[0], margins[1], margins[2]


@dataclass(frozen=True)
class _Poles:
    """The two pairs of poles of the filter, for one width in voxels."""

    sines: tuple[float, float]
    cosines: tuple[float, float]
    exponentials: tuple[float, float]


def recursive_coefficients(sigma: float, spacing: float, order: int) -> Doubles:
    """Return the coefficients of the recursive filter.

    Args:
        sigma: mm.
        spacing: mm.
        order: 0 for the Gaussian, 2 for its second derivative times sigma squared.

    Returns:
        float64 (20,): N0..N3, D1..D4 of the forward pass, M1..M4 of the backward pass, and the weights of the
        constant that continues the line beyond its first (4) and last (4) voxel.
    """
    width = sigma / spacing
    poles = _Poles(
        (math.sin(_FREQUENCIES[0] / width), math.sin(_FREQUENCIES[1] / width)),
        (math.cos(_FREQUENCIES[0] / width), math.cos(_FREQUENCIES[1] / width)),
        (math.exp(_DECAYS[0] / width), math.exp(_DECAYS[1] / width)),
    )
    d = _denominator(poles)
    n = _smoothing(poles, d) if order == 0 else _curvature(poles, d, sigma)
    m = (n[1] - d[0] * n[0], n[2] - d[1] * n[0], n[3] - d[2] * n[0], -d[3] * n[0])
    denominator = 1.0 + d[0] + d[1] + d[2] + d[3]
    forward, backward = n[0] + n[1] + n[2] + n[3], m[0] + m[1] + m[2] + m[3]
    before = tuple(weight * forward / denominator for weight in d)
    after = tuple(weight * backward / denominator for weight in d)
    return np.array([*n, *d, *m, *before, *after])


_Four = tuple[float, float, float, float]


def _denominator(poles: _Poles) -> _Four:
    (c1, c2), (e1, e2) = poles.cosines, poles.exponentials
    d4 = e1 * e1 * e2 * e2
    d3 = -2 * c1 * e1 * e2 * e2
    d3 += -2 * c2 * e2 * e1 * e1
    d2 = 4 * c2 * c1 * e1 * e2
    d2 += e1 * e1 + e2 * e2
    d1 = -2 * (e2 * c2 + e1 * c1)
    return d1, d2, d3, d4


def _numerator(poles: _Poles, weights: _Four) -> _Four:
    a1, b1, a2, b2 = weights
    (s1, s2), (c1, c2), (e1, e2) = poles.sines, poles.cosines, poles.exponentials
    n0 = a1 + a2
    n1 = e2 * (b2 * s2 - (a2 + 2 * a1) * c2)
    n1 += e1 * (b1 * s1 - (a1 + 2 * a2) * c1)
    n2 = (a1 + a2) * c2 * c1
    n2 -= b1 * c2 * s1 + b2 * c1 * s2
    n2 *= 2 * e1 * e2
    n2 += a2 * e1 * e1 + a1 * e2 * e2
    n3 = e2 * e1 * e1 * (b2 * s2 - a2 * c2)
    n3 += e1 * e2 * e2 * (b1 * s1 - a1 * c1)
    return n0, n1, n2, n3


def _smoothing(poles: _Poles, d: _Four) -> _Four:
    """Scale the Gaussian to a sum of one."""
    n = _numerator(poles, _SMOOTHING)
    gain = 2 * (n[0] + n[1] + n[2] + n[3]) / (1.0 + d[0] + d[1] + d[2] + d[3]) - n[0]
    return _scaled(n, 1.0 / gain)


def _curvature(poles: _Poles, d: _Four, sigma: float) -> _Four:
    """Take a constant out of the second derivative and scale it to that of a parabola, times sigma squared."""
    smooth, curved = _numerator(poles, _SMOOTHING), _numerator(poles, _CURVATURE)
    sd = 1.0 + d[0] + d[1] + d[2] + d[3]
    dd = d[0] + 2 * d[1] + 3 * d[2] + 4 * d[3]
    ed = d[0] + 4 * d[1] + 9 * d[2] + 16 * d[3]
    sums = [
        (n[0] + n[1] + n[2] + n[3], n[1] + 2 * n[2] + 3 * n[3], n[1] + 4 * n[2] + 9 * n[3]) for n in (smooth, curved)
    ]
    beta = -(2 * sums[1][0] - sd * curved[0]) / (2 * sums[0][0] - sd * smooth[0])
    sn, dn, en = (late + beta * early for early, late in zip(*sums, strict=True))
    n0, n1, n2, n3 = (late + beta * early for early, late in zip(smooth, curved, strict=True))
    gain = en * sd * sd - ed * sn * sd - 2 * dn * dd * sd + 2 * dd * dd * sn
    gain /= sd * sd * sd
    return _scaled((n0, n1, n2, n3), sigma * sigma / gain)


def _scaled(n: _Four, factor: float) -> _Four:
    return n[0] * factor, n[1] * factor, n[2] * factor, n[3] * factor


def _filter(
    part: Voxels, axis: int, coefficients: Doubles, margins: tuple[_Margin, _Margin, _Margin], reach: float
) -> Singles:
    """Filter along one axis and keep the box's extent of it."""
    first, length, _ = margins[axis]
    shape = list(part.shape)
    shape[axis] = length
    kept = np.zeros(shape, dtype=np.float32)
    away, aside = (margins[other][2] for other in range(3) if other != axis)
    if axis == 2:
        _filter_rows(part, kept, coefficients, first, reach, away, aside)
    else:
        _filter_columns(part, kept, axis, coefficients, first, reach, away, aside)
    return kept


@kernel
def _span(near: float, reach: float, first: int, length: int, size: int) -> tuple[int, int]:
    """Return the part of a line that is filtered, given how much of the reach is left to it."""
    margin = int(np.ceil(near * reach)) + _EXTRA
    return max(0, first - margin), min(size, first + length + margin)


@kernel
def _filter_columns(
    part: Voxels, kept: Singles, axis: int, q: Doubles, first: int, reach: float, away: Doubles, aside: Doubles
) -> None:
    """Filter along the first or the middle axis; voxels side by side on the last one are filtered together."""
    size, length, columns = part.shape[axis], kept.shape[axis], part.shape[2]
    source, target = part.reshape(-1), kept.reshape(-1)
    step = columns * (part.shape[1] if axis == 0 else 1)
    here, there = (columns, columns) if axis == 0 else (size * columns, length * columns)  # from line to line
    lines, forward, both = _scratch(size)
    for plane in range(away.shape[0]):
        for start in range(0, columns, _WIDTH):
            end = min(start + _WIDTH, columns)
            near = 1 - away[plane] - aside[start:end].min()
            if near >= 0:
                low, high = _span(near, reach, first, length, size)
                _read_columns(source, plane * here + low * step + start, step, lines[: high - low, : end - start])
                _recurse(lines[: high - low], q, first - low, first - low + length, forward, both)
                found = both[first - low : first - low + length, : end - start]
                _write_columns(found, target, plane * there + start, step)


@kernel
def _filter_rows(
    part: Voxels, kept: Singles, q: Doubles, first: int, reach: float, away: Doubles, aside: Doubles
) -> None:
    """Filter (K, J, n) along its last axis."""
    planes, rows, size = part.shape
    length = kept.shape[2]
    lines, forward, both = _scratch(size)
    for plane in range(planes):
        for start in range(0, rows, _WIDTH):
            end = min(start + _WIDTH, rows)
            near = 1 - away[plane] - aside[start:end].min()
            if near >= 0:
                low, high = _span(near, reach, first, length, size)
                _turn(part[plane, start:end, low:high], lines)
                _recurse(lines[: high - low], q, first - low, first - low + length, forward, both)
                _turn_back(both[first - low : first - low + length], kept[plane, start:end])


@kernel
def _scratch(size: int) -> tuple[Doubles, Doubles, Doubles]:
    return np.zeros((size, _WIDTH)), np.empty((size, _WIDTH)), np.empty((size, _WIDTH))


@kernel
def _read_columns(source: Voxels, start: int, step: int, lines: Doubles) -> None:
    """Read neighbouring columns; unsigned indices spare Numba a check that bars vector code."""
    for k in range(lines.shape[0]):
        row, place = lines[k], np.uintp(start + k * step)
        for c in range(np.uintp(lines.shape[1])):
            row[c] = source[place + c]


@kernel
def _write_columns(lines: Doubles, target: Singles, start: int, step: int) -> None:
    for k in range(lines.shape[0]):
        row, place = lines[k], np.uintp(start + k * step)
        for c in range(np.uintp(lines.shape[1])):
            target[place + c] = row[c]


@kernel
def _turn(rows: Voxels, lines: Doubles) -> None:
    """Lay rows (width, n) out as columns (n, _WIDTH), eight at a time: a line of the cache is then written at once."""
    width, size = np.uintp(rows.shape[0]), np.uintp(rows.shape[1])
    whole = width // np.uintp(8) * np.uintp(8)
    for c in range(np.uintp(0), whole, np.uintp(8)):
        for k in range(size):
            for side in range(np.uintp(8)):
                lines[k, c + side] = rows[c + side, k]
    for c in range(whole, width):
        for k in range(size):
            lines[k, c] = rows[c, k]


@kernel
def _turn_back(lines: Doubles, rows: Singles) -> None:
    width, size = np.uintp(rows.shape[0]), np.uintp(rows.shape[1])
    for start in range(np.uintp(0), size, np.uintp(_TILE)):
        for c in range(width):
            for k in range(start, min(start + np.uintp(_TILE), size)):
                rows[c, k] = lines[k, c]


@kernel
def _recurse(lines: Doubles, q: Doubles, first: int, end: int, forward: Doubles, both: Doubles) -> None:
    """Filter the columns of `lines` (n, width) into rows first to end - 1 of `both`."""
    _start_forward(lines, q, forward)
    n0, n1, n2, n3, d1, d2, d3, d4 = q[0], q[1], q[2], q[3], q[4], q[5], q[6], q[7]
    for k in range(4, end):
        for c in range(_WIDTH):
            fed = lines[k, c] * n0 + lines[k - 1, c] * n1 + lines[k - 2, c] * n2 + lines[k - 3, c] * n3
            back = forward[k - 1, c] * d1 + forward[k - 2, c] * d2 + forward[k - 3, c] * d3 + forward[k - 4, c] * d4
            forward[k, c] = fed - back
    _start_backward(lines, q, both)
    n1, n2, n3, n4 = q[8], q[9], q[10], q[11]
    for k in range(lines.shape[0] - 5, first - 1, -1):
        for c in range(_WIDTH):
            fed = lines[k + 1, c] * n1 + lines[k + 2, c] * n2 + lines[k + 3, c] * n3 + lines[k + 4, c] * n4
            back = both[k + 1, c] * d1 + both[k + 2, c] * d2 + both[k + 3, c] * d3 + both[k + 4, c] * d4
            both[k, c] = fed - back
    for k in range(first, end):
        for c in range(_WIDTH):
            both[k, c] = forward[k, c] + both[k, c]


@kernel
def _start_forward(x: Doubles, q: Doubles, y: Doubles) -> None:
    """Compute the first four rows as if the first value went on before them."""
    n0, n1, n2, n3, d1, d2, d3 = q[0], q[1], q[2], q[3], q[4], q[5], q[6]
    b1, b2, b3, b4 = q[12], q[13], q[14], q[15]
    for c in range(x.shape[1]):
        v = x[0, c]
        y[0, c] = (v * n0 + v * n1 + v * n2 + v * n3) - (v * b1 + v * b2 + v * b3 + v * b4)
        y[1, c] = (x[1, c] * n0 + v * n1 + v * n2 + v * n3) - (y[0, c] * d1 + v * b2 + v * b3 + v * b4)
        fed = x[2, c] * n0 + x[1, c] * n1 + v * n2 + v * n3
        y[2, c] = fed - (y[1, c] * d1 + y[0, c] * d2 + v * b3 + v * b4)
        fed = x[3, c] * n0 + x[2, c] * n1 + x[1, c] * n2 + v * n3
        y[3, c] = fed - (y[2, c] * d1 + y[1, c] * d2 + y[0, c] * d3 + v * b4)


@kernel
def _start_backward(x: Doubles, q: Doubles, y: Doubles) -> None:
    """Compute the last four rows as if the last value went on after them."""
    n1, n2, n3, n4, d1, d2, d3 = q[8], q[9], q[10], q[11], q[4], q[5], q[6]
    b1, b2, b3, b4 = q[16], q[17], q[18], q[19]
    last = x.shape[0] - 1
    for c in range(x.shape[1]):
        v = x[last, c]
        y[last, c] = (v * n1 + v * n2 + v * n3 + v * n4) - (v * b1 + v * b2 + v * b3 + v * b4)
        y[last - 1, c] = (v * n1 + v * n2 + v * n3 + v * n4) - (y[last, c] * d1 + v * b2 + v * b3 + v * b4)
        fed = x[last - 1, c] * n1 + v * n2 + v * n3 + v * n4
        y[last - 2, c] = fed - (y[last - 1, c] * d1 + y[last, c] * d2 + v * b3 + v * b4)
        fed = x[last - 2, c] * n1 + x[last - 1, c] * n2 + v * n3 + v * n4
        y[last - 3, c] = fed - (y[last - 2, c] * d1 + y[last - 1, c] * d2 + y[last, c] * d3 + v * b4)


@kernel
def _accumulate(total: Singles, term: Singles, weight: float) -> None:
    """Add a weighted term, rounding to single precision as ITK's running image does."""
    flat, added = total.reshape(-1), term.reshape(-1)
    for k in range(flat.shape[0]):
        flat[k] = np.float64(flat[k]) + np.float64(added[k]) * weight
