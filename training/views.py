"""Views of a crop: draw the parameters, then apply them to a whole batch on its device.

What is drawn is recorded: the same parameters give the same views, and neutral ones give the crops back.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from service.manifest import Strict
from training.resampling import resample


class ViewRanges(Strict):
    """How strongly views differ from their crop. A range r means: drawn evenly from -r to r."""

    flip: float = 0.5  # probability, per axis
    rotation_degrees: float = 180.0  # about a random axis
    scale: float = 0.2  # of log magnification
    shift: float = 0.1  # of the crop's edge, per axis
    contrast: float = 0.2  # of log contrast
    brightness: float = 0.1  # of the window's half width
    noise: float = 0.1  # largest standard deviation, of the window's half width
    smoothing: float = 0.8  # share of a 3-voxel box filter; negative shares sharpen
    cutout: float = 0.0  # largest edge of the erased box, of the crop's edge


@dataclass(frozen=True)
class ViewParams:
    """The drawn parameters of one view of each of N crops."""

    flips: Tensor  # [N, 3] bool, along the crop's axes
    rotations: Tensor  # [N, 3, 3]
    scales: Tensor  # [N] magnification
    shifts: Tensor  # [N, 3] of the crop's edge
    contrasts: Tensor  # [N]
    brightnesses: Tensor  # [N]
    noises: Tensor  # [N] standard deviations
    noise_seed: int
    noise_rows: tuple[int, int, int]  # first and last row, and of how many drawn together
    smoothings: Tensor  # [N]
    cutouts: Tensor  # [N, 3, 2] first and last edge of the erased box, from 0 to 1

    def __len__(self) -> int:
        return len(self.scales)

    def part(self, first: int, last: int) -> "ViewParams":
        """Return the parameters of the crops from `first` up to `last`, each with the noise it has in the whole."""
        cut: dict[str, Any] = {
            name: value[first:last] for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        start, _, drawn = self.noise_rows
        return replace(self, **cut, noise_rows=(start + first, start + last, drawn))


def draw_view_params(
    rng: np.random.Generator, count: int, ranges: ViewRanges, strengths: NDArray[np.float64] | None = None
) -> ViewParams:
    """Draw the parameters of one view of each of `count` crops.

    Args:
        rng: advanced by the same number of draws whatever the ranges and strengths.
        count: N.
        ranges: of the parameters.
        strengths: [N] from 0 to 1, what part of the ranges each crop takes; flips and rotations, which leave a lesion
            what it is, are not weakened.
    """
    share = np.ones(count) if strengths is None else strengths

    def even(largest: float, *shape: int, smallest: float | None = None) -> Tensor:
        low = -largest if smallest is None else smallest
        drawn = rng.uniform(low, largest, (count, *shape)) * share.reshape(-1, *(1 for _ in shape))
        return torch.from_numpy(drawn.astype(np.float32))

    return ViewParams(
        flips=torch.from_numpy(rng.random((count, 3)) < ranges.flip),
        rotations=_draw_rotations(rng, count, np.deg2rad(ranges.rotation_degrees)),
        scales=torch.exp(even(ranges.scale)),
        shifts=even(ranges.shift, 3),
        contrasts=torch.exp(even(ranges.contrast)),
        brightnesses=even(ranges.brightness),
        noises=even(ranges.noise, smallest=0.0),
        noise_seed=int(rng.integers(2**62)),
        noise_rows=(0, count, count),
        smoothings=even(ranges.smoothing),
        cutouts=_draw_boxes(rng, ranges.cutout * share),
    )


def neutral_view_params(count: int) -> ViewParams:
    """Return the parameters that leave `count` crops as they are."""
    nothing = ViewRanges(
        flip=0, rotation_degrees=0, scale=0, shift=0, contrast=0, brightness=0, noise=0, smoothing=0, cutout=0
    )
    return draw_view_params(np.random.default_rng(0), count, nothing)


def apply_view(crops: Tensor, params: ViewParams, image_channels: int) -> Tensor:
    """Return one view of each crop.

    Args:
        crops: [N, C, D, D, D]; the first `image_channels` hold intensities in [-1, 1], the rest masks in [0, 1].
        params: of N views.
        image_channels: only these change in intensity; all move together.

    Returns:
        [N, C, D, D, D].
    """
    views = _move(crops, params)
    images = views[:, :image_channels]
    _change_intensity(images, params)
    if bool((params.cutouts[:, :, 1] > params.cutouts[:, :, 0]).any()):
        images.masked_fill_(_erased(images, params), -1.0)
    return views


def _move(crops: Tensor, params: ViewParams) -> Tensor:
    """Flip, rotate, magnify and shift in one linear interpolation; beyond the crop its border is repeated."""
    signs = 1.0 - 2.0 * params.flips.float()  # [N, 3]
    matrices = params.rotations * signs[:, None, :] / params.scales[:, None, None]
    return resample(crops, torch.cat([matrices, 2.0 * params.shifts[:, :, None]], dim=2).to(crops.device))


def _change_intensity(images: Tensor, params: ViewParams) -> None:
    """Smooth or sharpen, change contrast about -1 (the window's low) and brightness, add noise, clip; in place."""

    def each(values: Tensor) -> Tensor:
        return values.to(images).view(-1, 1, 1, 1, 1)

    if bool(params.smoothings.any()):
        images.lerp_(_box_filter(images), each(params.smoothings))
    images.mul_(each(params.contrasts)).add_(each(params.contrasts - 1.0 + params.brightnesses))
    if bool(params.noises.any()):
        images.addcmul_(_draw_noise(images, params), each(params.noises))
    images.clamp_(-1.0, 1.0)


def _box_filter(images: Tensor) -> Tensor:
    """Return the mean of the 3 x 3 x 3 voxels about each, borders repeated: one axis after the other."""
    for axis in (2, 3, 4):
        last = images.shape[axis] - 1
        summed = images.clone()
        summed.narrow(axis, 1, last).add_(images.narrow(axis, 0, last))
        summed.narrow(axis, 0, 1).add_(images.narrow(axis, 0, 1))
        summed.narrow(axis, 0, last).add_(images.narrow(axis, 1, last))
        summed.narrow(axis, last, 1).add_(images.narrow(axis, last, 1))
        images = summed
    return images.div_(27.0)


def _draw_noise(images: Tensor, params: ViewParams) -> Tensor:
    """Return normal noise in the shape of the images, as drawn for all the crops of the batch together."""
    first, last, drawn = params.noise_rows
    source = torch.Generator(device=images.device).manual_seed(params.noise_seed)
    noise = torch.randn((drawn, *images.shape[1:]), generator=source, device=images.device, dtype=images.dtype)
    return noise[first:last]


def _erased(images: Tensor, params: ViewParams) -> Tensor:
    """Return the voxels [N, 1, D, D, D] inside the cut-out boxes."""
    inside = []
    for axis in range(3):
        centres = (torch.arange(images.shape[2 + axis], device=images.device) + 0.5) / images.shape[2 + axis]
        edges = params.cutouts[:, axis].to(images)  # [N, 2]
        inside.append((centres >= edges[:, :1]) & (centres < edges[:, 1:]))  # [N, D]
    return (inside[0][:, :, None, None] & inside[1][:, None, :, None] & inside[2][:, None, None, :])[:, None]


def _draw_rotations(rng: np.random.Generator, count: int, largest_radians: float) -> Tensor:
    """Draw rotations about random axes (Rodrigues' formula)."""
    axes = rng.standard_normal((count, 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    angles = rng.uniform(0.0, largest_radians, count)[:, None, None]
    cross = np.zeros((count, 3, 3))
    cross[:, [2, 0, 1], [1, 2, 0]] = axes
    cross[:, [1, 2, 0], [2, 0, 1]] = -axes
    rotations = np.eye(3) + np.sin(angles) * cross + (1.0 - np.cos(angles)) * cross @ cross
    return torch.from_numpy(rotations.astype(np.float32))


def _draw_boxes(rng: np.random.Generator, largest: NDArray[np.float64]) -> Tensor:
    edges = rng.uniform(0.0, 1.0, (len(largest), 3, 1)) * largest[:, None, None]
    starts = rng.uniform(0.0, 1.0, (len(largest), 3, 1)) * (1.0 - edges)
    return torch.from_numpy(np.concatenate([starts, starts + edges], axis=2).astype(np.float32))
