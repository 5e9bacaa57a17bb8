"""What filtering a box costs: how many voxels the filter visits, in the box and around it.

A visit takes about the same time wherever it is, so sums of visits tell whether boxes are better filtered together.
"""

import math

import numpy as np
import numpy.typing as npt
import pywt

from service.features.engine.laplacian import REACH
from service.features.engine.options import Number
from service.features.engine.region import Box, Spacing

Doubles = npt.NDArray[np.float64]

LARGEST_LAPLACIAN = 2**24
LARGEST_WAVELET = 2**23
"""Voxels, with those around the box, above which nothing is filtered together: for the sake of memory."""

_SAMPLES = 5  # on each side of an axis
_MIDDLES = (np.arange(_SAMPLES) + 0.5) / _SAMPLES


def laplacian_visits(shape: tuple[int, ...], box: Box, spacing: Spacing, sigma: Number) -> float:
    """Estimate how many voxels all passes over the surroundings of a box visit.

    Each of three sums of passes filters the octahedron grown around the box along one axis, what is left of it
    along the next, and the rest along the last.

    Args:
        shape: of the whole image.
        box: where the result is wanted.
        spacing: mm along (K, J, I).
        sigma: of the Gaussian, mm.

    Returns:
        Visits; infinite where the surroundings hold more than `LARGEST_LAPLACIAN` voxels.
    """
    reaches = [REACH * float(sigma) / step for step in spacing]
    axes = [_sample(*axis) for axis in zip(shape, box.lower, box.shape, reaches, strict=True)]
    padded = [float(weights.sum()) for _, weights in axes]
    if math.prod(padded) > LARGEST_LAPLACIAN:
        return math.inf
    visits = 3 * _octahedron(axes)
    for first, second, third in ((2, 1, 0), (1, 2, 0), (0, 2, 1)):
        visits += box.shape[first] * _octahedron([axes[second], axes[third]])
        visits += box.shape[first] * box.shape[second] * padded[third]
    return visits


def wavelet_visits(box: Box, wavelet: str) -> float:
    """Return how many voxels the transform of a box reads: those of the box and of the filter's reach around it.

    Args:
        box: where the result is wanted.
        wavelet: PyWavelets' name.

    Returns:
        Voxels; infinite for more than `LARGEST_WAVELET`.
    """
    margin = pywt.Wavelet(wavelet).dec_len - 1
    voxels = math.prod(extent + margin for extent in box.shape)
    return voxels if voxels <= LARGEST_WAVELET else math.inf


def _sample(size: int, low: int, extent: int, reach: float) -> tuple[Doubles, Doubles]:
    """Sample an axis of the surroundings: distances from the box in parts of the reach, and voxels for each."""
    sides = np.minimum(reach, [low, size - low - extent])
    distances, weights = np.zeros(2 * _SAMPLES + 1), np.full(2 * _SAMPLES + 1, float(extent))
    distances[1:] = np.multiply.outer(sides / reach, _MIDDLES).ravel()
    weights[1:] = np.repeat(sides / _SAMPLES, _SAMPLES)
    return distances, weights


def _octahedron(axes: list[tuple[Doubles, Doubles]]) -> float:
    """Count the voxels whose distances along these axes add up to no more than the reach."""
    distance, voxels = axes[0]
    for more, weights in axes[1:]:
        distance, voxels = np.add.outer(distance, more).ravel(), np.multiply.outer(voxels, weights).ravel()
    within, touched = distance < 1 - 1e-9, distance < 1 + 1e-9  # of a sample's cell half is, where it touches
    return float(voxels @ within + voxels @ touched) / 2
