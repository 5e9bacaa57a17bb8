"""Stationary wavelet transform of the region's box: PyRadiomics' image type `Wavelet`, one level.

The transform is periodic, after one plane has been repeated where the image has an odd number of them. Filters
are short, so the box needs only a few planes around it, taken from the image's other side where it ends.
PyWavelets adds up the taps of an output in an order that depends on its distance from the last plane; in flat
parts of an image that order decides the sign of zero, and with it the grey level.

References:
    PyWavelets 1.x, `swtn` and `downsampling_convolution_periodization`.
    PyRadiomics 3.0.1, `imageoperations._swt3`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pywt

from service.features.engine.compiled import kernel
from service.features.engine.region import Box, Offsets, Voxels

BANDS = ("LLH", "LHL", "LHH", "HLL", "HLH", "HHL", "HHH", "LLL")
"""The sub-bands in PyRadiomics' order; L or H for the filter along I, J and K."""

BEGINNINGS = ("LL", "LH", "HL", "HH")


@dataclass(frozen=True)
class Filters:
    """Low-pass and high-pass decomposition filter, (F,) each, in the precision of the transform."""

    low: Voxels
    high: Voxels

    @property
    def before(self) -> int:
        """How many voxels before an output its sum reaches."""
        return len(self.low) - 1 - self.after

    @property
    def after(self) -> int:
        """How many voxels after an output its sum reaches."""
        return len(self.low) // 2


def filters(wavelet: str, single: bool) -> Filters:
    """Return the filters of a wavelet by PyWavelets' name."""
    return _filters(wavelet, np.float32 if single else np.float64)


@lru_cache(maxsize=256)
def _filters(wavelet: str, kind: type[np.floating[npt.NBitBase]]) -> Filters:
    """Read the taps off PyWavelets' own transform of a unit impulse: its single precision tables are not public."""
    length = pywt.Wavelet(wavelet).dec_len
    impulse = np.zeros(2 * length + length % 2, dtype=kind)
    impulse[length] = 1
    ((low, high),) = pywt.swt(impulse, wavelet, level=1)
    first = length - length // 2
    return Filters(low[first : first + length].copy(), high[first : first + length].copy())


def sub_bands(image: Voxels, box: Box, wavelet: str, beginning: str) -> Iterator[tuple[str, Voxels]]:
    """Transform the image around a box into the two sub-bands that begin with the same two letters.

    Args:
        image: (K, J, I), the whole image.
        box: where the result is wanted.
        wavelet: PyWavelets' name.
        beginning: one of `BEGINNINGS`, the filters along I and J.

    Yields:
        Sub-band and box, float32 for a float32 image and float64 for others.
    """
    taps = filters(wavelet, image.dtype == np.float32)
    rows = _transform_rows(image, box, taps, beginning[0])
    columns = _columns(rows, _choose(taps, beginning[1]), _orders(image.shape[1], box, 1, taps))
    flat = columns.reshape(1, columns.shape[0], -1)
    orders = _orders(image.shape[0], box, 0, taps)
    for along_k in "LH":
        yield beginning + along_k, _columns(flat, _choose(taps, along_k), orders).reshape(box.shape)


def _transform_rows(image: Voxels, box: Box, taps: Filters, band: str) -> Voxels:
    """Filter the box with its surroundings along I.

    Returns:
        (K + F - 1, J + F - 1, I): the box's extent along I, with the filter's reach along J and K.
    """
    indices = [_periodic(image.shape[axis], box, axis, taps) for axis in range(3)]
    if all((np.diff(along) == 1).all() for along in indices):
        crop = image[tuple(slice(along[0], along[-1] + 1) for along in indices)]
    else:
        crop = image[np.ix_(*indices)]
    crop = np.ascontiguousarray(crop, dtype=taps.low.dtype)
    orders = _orders(image.shape[2], box, 2, taps)
    rows: Voxels = _rows(crop.reshape(-1, crop.shape[2]), _choose(taps, band), orders)
    return rows.reshape(*crop.shape[:2], box.shape[2])


def _choose(taps: Filters, band: str) -> Voxels:
    return taps.low if band == "L" else taps.high


def _periodic(size: int, box: Box, axis: int, taps: Filters) -> Offsets:
    """Return the indices of the voxels that the box's outputs need along one axis."""
    even = size + size % 2
    low = box.lower[axis]
    indices = np.arange(low - taps.before, low + box.shape[axis] + taps.after) % even
    indices[indices == size] = 0  # the plane repeated behind an odd number of planes is the first
    return indices


def _orders(size: int, box: Box, axis: int, taps: Filters) -> Offsets:
    """Return the order in which PyWavelets adds up the taps of each output along one axis, (extent, F)."""
    even, length = size + size % 2, len(taps.low)
    outputs = box.lower[axis] + np.arange(box.shape[axis])
    wrapped = np.clip(outputs + taps.after - even + 1, 0, length)[:, None]  # taps that meet the start again
    place = np.arange(length)[None, :]
    return np.where(place < wrapped, wrapped - 1 - place, place)


@kernel
def _rows(crop: Voxels, taps: Voxels, orders: Offsets) -> Voxels:
    """Filter (R, n) along the last axis."""
    size, length = orders.shape
    regular = 0  # outputs whose taps are added up in their own order come first
    while regular < size and orders[regular, 0] == 0:
        regular += 1
    found = np.zeros((crop.shape[0], size), crop.dtype)
    for r in range(crop.shape[0]):
        row, out = crop[r], found[r]
        for j in range(length):
            tap = taps[j]
            for x in range(regular):
                out[x] += tap * row[x + length - 1 - j]
        for x in range(regular, size):
            for place in range(length):
                j = orders[x, place]
                out[x] += taps[j] * row[x + length - 1 - j]
    return found


@kernel
def _columns(crop: Voxels, taps: Voxels, orders: Offsets) -> Voxels:
    """Filter (P, n, C) along the middle axis."""
    size, length = orders.shape
    found = np.zeros((crop.shape[0], size, crop.shape[2]), crop.dtype)
    for p in range(crop.shape[0]):
        for y in range(size):
            out = found[p, y]
            for place in range(length):
                j = orders[y, place]
                row, tap = crop[p, y + length - 1 - j], taps[j]
                for x in range(row.shape[0]):
                    out[x] += tap * row[x]
    return found
