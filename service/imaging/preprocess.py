"""Cut what the encoder sees out of an image. Training and service share this one implementation."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.errors import UnfitCase
from service.imaging.case import Image, Mask, Voxels
from service.manifest import Preprocessing, Window

Crop = NDArray[np.float32]


def cut_crop(images: Mapping[str, Image], mask: Mask, channels: Sequence[str], preprocessing: Preprocessing) -> Crop:
    """Cut a cube around the region of interest out of each channel.

    The cube lies along the image's own array axes and is centred on the middle of the mask's bounding box.
    Intensities are clipped to the channel's window first; then each output voxel is the mean of the image over a
    cell as wide as the larger of the output step and the input voxel, along each axis, input voxels being boxes.
    Where the crop is finer than the image this is exactly linear interpolation between voxel centres; where it is
    coarser it averages all that it covers, so nothing aliases. Outside the image, and beyond `context_mm` around
    the bounding box, lies the window's low end. NumPy's elementwise single precision arithmetic alone is used, in
    one fixed order: equal inputs give equal bits on any number of threads.

    Args:
        images: by channel, all on the mask's grid.
        mask: the region of interest.
        channels: the order of the crop's channels.
        preprocessing: size and windows, from the bundle's manifest.

    Returns:
        float32 (C, D, D, D) in house axes, channels in [-1, 1]; with `mask_channel` the mask follows as the
        last channel, in [0, 1].

    Raises:
        UnfitCase: a channel is missing or has no window.
    """
    _check_channels(images, channels, preprocessing)
    taps = [
        _axis_taps(middle, extent_mm / preprocessing.crop_voxels / edge, preprocessing.crop_voxels, seen)
        for extent_mm in [_extent_mm(mask, preprocessing)]
        for middle, edge, seen in zip(
            _box_middle(mask), mask.geometry.spacing_mm, _seen(mask, preprocessing), strict=True
        )
    ]
    windows = {name: find_window(images[name].voxels, preprocessing.windows[name]) for name in channels}
    crops = [
        2 * _interpolate(_windowed(_sub_box(images[name].voxels, taps), *windows[name]), taps) - 1 for name in channels
    ]
    if preprocessing.mask_channel:
        crops.append(_interpolate(_sub_box(mask.voxels, taps).astype(np.float32), taps))
    return np.stack(crops)


@dataclass(frozen=True)
class _Taps:
    """Which input planes an output plane takes, and how much of each, along one axis.

    Attributes:
        start: first input plane that any output plane needs.
        stop: one past the last.
        planes: (T, D) indices relative to `start`, kept inside it; those of weight 0 are arbitrary.
        weights: float32 (T, D); they sum to less than 1 where the cell reaches outside the image.
    """

    start: int
    stop: int
    planes: NDArray[np.intp]
    weights: NDArray[np.float32]


def _axis_taps(middle: float, step: float, count: int, seen: tuple[int, int]) -> _Taps:
    """Lay `count` cells, `step` input voxels apart around `middle`, over the planes from seen[0] up to seen[1]."""
    lowest, end = seen
    width = max(step, 1.0)
    left = middle + (np.arange(count) - (count - 1) / 2) * step - width / 2
    first = np.floor(left + 0.5)
    planes = first + np.arange(math.ceil(width) + 1)[:, None]
    covered = np.minimum(left + width, planes + 0.5) - np.maximum(left, planes - 0.5)
    weights = np.where((planes >= lowest) & (planes < end), np.clip(covered, 0, None) / width, 0)
    start = int(np.clip(planes.min(), lowest, end - 1))
    stop = int(np.clip(planes.max(), start, end - 1)) + 1
    inside = np.clip(planes, start, stop - 1).astype(np.intp) - start
    return _Taps(start, stop, inside, weights.astype(np.float32))


def _sub_box(voxels: Voxels, taps: Sequence[_Taps]) -> Voxels:
    return voxels[tuple(slice(axis.start, axis.stop) for axis in taps)]


def find_window(voxels: Voxels, window: Window) -> tuple[float, float]:
    """Return the window's bounds as intensities of this image.

    Percentiles are of all voxels that are not zero, by linear interpolation; where they coincide, as in an image of
    one intensity, the window is one unit wide.
    """
    if window.unit == "value":
        return window.low, window.high
    shown = voxels[voxels != 0]
    if shown.size == 0:
        return 0.0, 1.0
    low, high = (float(bound) for bound in np.percentile(shown, [window.low, window.high]))
    return low, high if high > low else low + 1.0


def _windowed(voxels: Voxels, low: float, high: float) -> Crop:
    """Clip to the window and map it to [0, 1]."""
    with np.errstate(over="ignore"):  # what single precision cannot hold lies outside any window
        single = voxels.astype(np.float32, order="C")
    clipped = np.clip(single, np.float32(low), np.float32(high))
    return (clipped - np.float32(low)) / np.float32(high - low)


def _interpolate(box: Crop, taps: Sequence[_Taps]) -> Crop:
    """Apply the taps of each axis in turn: (ni, nj, nk) to (D, D, D)."""
    for axis, along in enumerate(taps):
        shape = [1, 1, 1]
        shape[axis] = -1
        total = np.zeros([*box.shape[:axis], along.planes.shape[1], *box.shape[axis + 1 :]], np.float32)
        for planes, weights in zip(along.planes, along.weights, strict=True):
            total += np.take(box, planes, axis=axis) * weights.reshape(shape)
        box = total
    return np.clip(box, 0, 1)  # rounding alone can leave the unit interval


def _box_middle(mask: Mask) -> tuple[float, ...]:
    return tuple((first + stop - 1) / 2 for first, stop in mask.bounding_box)


def _seen(mask: Mask, preprocessing: Preprocessing) -> list[tuple[int, int]]:
    """Return the first plane along each axis that the crop may show, and one past the last."""
    if preprocessing.context_mm is None:
        return [(0, size) for size in mask.geometry.shape]
    margins = [int(preprocessing.context_mm / edge + 1e-6) for edge in mask.geometry.spacing_mm]
    return [
        (max(0, first - margin), min(size, stop + margin))
        for (first, stop), margin, size in zip(mask.bounding_box, margins, mask.geometry.shape, strict=True)
    ]


def _extent_mm(mask: Mask, preprocessing: Preprocessing) -> float:
    if preprocessing.extent == "fixed":
        return preprocessing.extent_mm
    sides = [
        (stop - first) * edge for (first, stop), edge in zip(mask.bounding_box, mask.geometry.spacing_mm, strict=True)
    ]
    return max(preprocessing.extent_mm, preprocessing.roi_scale * max(sides))


def _check_channels(images: Mapping[str, Image], channels: Sequence[str], preprocessing: Preprocessing) -> None:
    for name in channels:
        if name not in images or name not in preprocessing.windows:
            where = "window in the bundle" if name in images else "image in the case"
            raise UnfitCase(f"channel {name!r} has no {where}", channel=name)
