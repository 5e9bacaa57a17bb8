"""Views of a crop: draw the parameters, then apply them to a whole batch on its device.

What is drawn is recorded: the same parameters give the same views, and neutral ones give the crops back.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import affine_grid, avg_pool3d, grid_sample, pad

from service.manifest import Strict


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
    smoothings: Tensor  # [N]
    cutouts: Tensor  # [N, 3, 2] first and last edge of the erased box, from 0 to 1

    def __len__(self) -> int:
        return len(self.scales)


def draw_view_params(rng: np.random.Generator, count: int, ranges: ViewRanges) -> ViewParams:
    """Draw the parameters of one view of each of `count` crops."""

    def even(largest: float, *shape: int, smallest: float | None = None) -> Tensor:
        low = -largest if smallest is None else smallest
        return torch.from_numpy(rng.uniform(low, largest, (count, *shape)).astype(np.float32))

    return ViewParams(
        flips=torch.from_numpy(rng.random((count, 3)) < ranges.flip),
        rotations=_draw_rotations(rng, count, np.deg2rad(ranges.rotation_degrees)),
        scales=torch.exp(even(ranges.scale)),
        shifts=even(ranges.shift, 3),
        contrasts=torch.exp(even(ranges.contrast)),
        brightnesses=even(ranges.brightness),
        noises=even(ranges.noise, smallest=0.0),
        noise_seed=int(rng.integers(2**62)),
        smoothings=even(ranges.smoothing),
        cutouts=_draw_boxes(rng, count, ranges.cutout),
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
    moved = _move(crops, params)
    images = _change_intensity(moved[:, :image_channels], params)
    images = images.masked_fill(_erased(images, params), -1.0)
    return torch.cat([images, moved[:, image_channels:]], dim=1)


def _move(crops: Tensor, params: ViewParams) -> Tensor:
    """Flip, rotate, magnify and shift in one linear interpolation; beyond the crop its border is repeated."""
    signs = 1.0 - 2.0 * params.flips.to(crops)  # [N, 3]
    matrices = params.rotations.to(crops) * signs[:, None, :] / params.scales.to(crops)[:, None, None]
    sampling = torch.cat([matrices, 2.0 * params.shifts.to(crops)[:, :, None]], dim=2)  # [N, 3, 4]
    # affine_grid counts its axes from the last: x is the third axis of the crop.
    sampling = torch.cat([sampling[:, :, :3].flip(1, 2), sampling[:, :, 3:].flip(1)], dim=2)
    grid = affine_grid(sampling, list(crops.shape), align_corners=False)
    return grid_sample(crops, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _change_intensity(images: Tensor, params: ViewParams) -> Tensor:
    """Smooth or sharpen, change contrast about -1 (the window's low) and brightness, add noise, clip."""

    def each(values: Tensor) -> Tensor:
        return values.to(images).view(-1, 1, 1, 1, 1)

    smooth = avg_pool3d(pad(images, (1,) * 6, mode="replicate"), 3, stride=1)
    images = images + each(params.smoothings) * (smooth - images)
    images = (images + 1.0) * each(params.contrasts) - 1.0 + each(params.brightnesses)
    source = torch.Generator(device=images.device).manual_seed(params.noise_seed)
    noise = torch.randn(images.shape, generator=source, device=images.device, dtype=images.dtype)
    return (images + each(params.noises) * noise).clamp(-1.0, 1.0)


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


def _draw_boxes(rng: np.random.Generator, count: int, largest: float) -> Tensor:
    edges = rng.uniform(0.0, largest, (count, 3, 1))
    starts = rng.uniform(0.0, 1.0, (count, 3, 1)) * (1.0 - edges)
    return torch.from_numpy(np.concatenate([starts, starts + edges], axis=2).astype(np.float32))
