"""Resampling of an image and its mask to another spacing.

Interpolation is separable: along each axis a new voxel is a weighted sum of old ones, so each axis is one product
with a matrix of weights. Only the surroundings of the region are looked at.

References:
    IBSI reference manual, section 2.4: grids aligned by their centres, and partial volumes of a mask cut at .5.
    Thevenaz, Blu, Unser, "Interpolation revisited", IEEE Trans. Med. Imaging 19(7), 2000.
"""

from dataclasses import dataclass
from math import ceil, prod
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from service.errors import EmptyRoi, RadiomicsRefused
from service.features.ibsi.configuration import Interpolation

Doubles = npt.NDArray[np.float64]
Bits = npt.NDArray[np.bool_]
Method = Literal["linear", "cubic"]

_REACH: Final[dict[Method, int]] = {"linear": 1, "cubic": 30}
"""Old voxels that a new one depends on to each side; the cubic spline's prefilter decays by .268 a voxel."""
_LARGEST: Final = 1 << 27  # 1 GiB of doubles
_DIGITS: Final = 9  # a sum of weights that should be one half is one half only to rounding


@dataclass(frozen=True)
class Volume:
    """The region's surroundings.

    Attributes:
        voxels: float64 (K, J, I).
        inside: bool (K, J, I), the region.
        spacing: mm along (K, J, I).
    """

    voxels: Doubles
    inside: Bits
    spacing: tuple[float, float, float]


def crop(voxels: npt.NDArray[Any], mask: Bits, spacing: tuple[float, float, float]) -> Volume:
    """Cut the region's box out, on the image's own grid.

    Args:
        voxels: (K, J, I).
        mask: bool (K, J, I) with at least one voxel set.
        spacing: mm along (K, J, I).
    """
    box = tuple(slice(first, last + 1) for first, last in _bounds(mask))
    return Volume(voxels[box].astype(np.float64), mask[box], spacing)


def resample(
    voxels: npt.NDArray[Any], mask: Bits, spacing: tuple[float, float, float], interpolation: Interpolation
) -> Volume:
    """Interpolate image and mask around the region.

    Args:
        voxels: (K, J, I).
        mask: bool (K, J, I) with at least one voxel set.
        spacing: of the image, mm along (K, J, I).
        interpolation: the new spacing and the method.

    Raises:
        EmptyRoi: no voxel of the new grid lies in the region.
        RadiomicsRefused: the new spacing is so fine that the region's box would not fit into memory.
    """
    bounds = _bounds(mask)
    new: list[float] = [own if wish is None else wish for own, wish in zip(spacing, interpolation.spacing, strict=True)]
    _require_room(
        [(last - first + 2) * own / wish for (first, last), own, wish in zip(bounds, spacing, new, strict=True)]
    )
    centres = [
        _near(aligned_centres(size, own, wish), ends)
        for size, own, wish, ends in zip(mask.shape, spacing, new, bounds, strict=True)
    ]
    if not all(len(places) for places in centres):
        raise _vanished()
    values = _sample(voxels, centres, interpolation.method)
    coverage = _sample(mask, centres, "linear")
    inside = np.round(coverage, _DIGITS) >= 0.5
    if not inside.any():
        raise _vanished()
    if interpolation.whole_numbers:
        values = np.rint(np.round(values, _DIGITS))
    return Volume(values, inside, (new[0], new[1], new[2]))


def _vanished() -> EmptyRoi:
    return EmptyRoi("no new voxel has half of its volume inside the region: the spacing is too coarse for it", voxels=0)


def aligned_centres(size: int, spacing: float, new: float) -> Doubles:
    """Place the new voxels' centres along an axis, in old voxels; both grids have the same middle.

    Args:
        size: number of old voxels.
        spacing: old, mm.
        new: mm.
    """
    count = ceil(round(size * spacing / new, _DIGITS))
    return np.asarray((size - 1) / 2 + (np.arange(count) - (count - 1) / 2) * (new / spacing), dtype=np.float64)


def linear_weights(places: Doubles, size: int) -> Doubles:
    """Return weights (P, size) of linear interpolation at places (P,) in [0, size - 1]."""
    return np.asarray(np.maximum(0.0, 1.0 - np.abs(places[:, None] - np.arange(size))))


def cubic_weights(places: Doubles, size: int) -> Doubles:
    """Return weights (P, size) of the interpolating cubic spline, mirrored at both ends.

    A voxel's value is 4/6 of its own spline coefficient and 1/6 of each neighbour's. Solving for the coefficients
    is the prefilter; the basis function at the places does the rest.
    """
    if size < 2:
        return np.ones((len(places), size))
    values = (
        np.diag(np.full(size, 4 / 6)) + np.diag(np.full(size - 1, 1 / 6), 1) + np.diag(np.full(size - 1, 1 / 6), -1)
    )
    values[0, 1] = values[-1, -2] = 2 / 6
    taps = np.zeros((len(places), size))
    for step in (-1, 0, 1, 2):
        knots = np.floor(places).astype(np.int64) + step
        mirrored = np.abs(knots) % (2 * size - 2)
        mirrored = np.minimum(mirrored, 2 * size - 2 - mirrored)
        np.add.at(taps, (np.arange(len(places)), mirrored), _cubic_basis(places - knots))
    return np.asarray(np.linalg.solve(values.T, taps.T).T)


def _cubic_basis(distances: Doubles) -> Doubles:
    far = np.abs(distances)
    return np.where(far < 1, 2 / 3 - far**2 + far**3 / 2, np.maximum(0.0, 2 - far) ** 3 / 6)


def _bounds(mask: Bits) -> list[tuple[int, int]]:
    """Return the first and last index of the region along each axis."""
    bounds = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        present = np.flatnonzero(mask.any(axis=others))
        bounds.append((int(present[0]), int(present[-1])))
    return bounds


def _near(places: Doubles, bounds: tuple[int, int]) -> Doubles:
    """Keep the places that may lie in the region; a place half a voxel beyond its last voxel still may."""
    return places[(places > bounds[0] - 1) & (places < bounds[1] + 1)]


def _require_room(extents: list[float]) -> None:
    count = ceil(prod(extents))
    if count > _LARGEST:
        raise RadiomicsRefused(
            f"the region's box would hold {count} voxels after interpolation, at most {_LARGEST} are allowed",
            voxels=count,
            maximum=_LARGEST,
        )


def _sample(volume: npt.NDArray[Any], centres: list[Doubles], method: Method) -> Doubles:
    """Interpolate at the grid of centres; beyond the outermost voxels the outermost value holds."""
    reach = _REACH[method]
    weights = linear_weights if method == "linear" else cubic_weights
    places = [np.clip(centre, 0, size - 1) for centre, size in zip(centres, volume.shape, strict=True)]
    first = [max(0, int(place.min()) - reach) for place in places]
    last = [min(size, int(place.max()) + reach + 2) for place, size in zip(places, volume.shape, strict=True)]
    sampled: Doubles = volume[tuple(map(slice, first, last))].astype(np.float64)
    for axis, place in enumerate(places):
        matrix = weights(place - first[axis], sampled.shape[axis])
        sampled = np.moveaxis(np.tensordot(matrix, sampled, axes=(1, axis)), 0, axis)
    return np.ascontiguousarray(sampled)
