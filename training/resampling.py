"""Move crops by affine maps, with trilinear interpolation: a compiled loop on the CPU, `grid_sample` elsewhere.

PyTorch's own loop over volumes is not vectorised on the CPU and needs every sampling point written out; there it
takes five times as long and would cost as much as the network's step.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from service.features.engine.compiled import kernel

Floats = NDArray[np.float32]


def resample(crops: Tensor, maps: Tensor) -> Tensor:
    """Return crops [N, C, D, H, W] seen through `maps`; beyond a crop its border is repeated.

    Args:
        crops: float32, without gradient.
        maps: [N, 3, 4], from the result's coordinates to the crop's, each from -1 to 1 between the outer faces of the
            outermost voxels, axes in the crop's order.
    """
    if crops.device.type == "cpu":
        moved = torch.empty(crops.shape)
        _resample_all(crops.contiguous().numpy(), _to_voxels(maps, crops.shape[2:]).numpy(), moved.numpy())
        return moved
    # affine_grid counts its axes from the last: x is the third axis of the crop.
    reversed_axes = torch.cat([maps[:, :, :3].flip(1, 2), maps[:, :, 3:].flip(1)], dim=2)
    grid = affine_grid(reversed_axes, list(crops.shape), align_corners=False)
    return grid_sample(crops, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _to_voxels(maps: Tensor, shape: torch.Size) -> Tensor:
    """Return the same maps between voxel indices: x = ((u + 1) n - 1) / 2 along an axis of n voxels."""
    size = torch.tensor(shape, dtype=torch.float64)
    matrices, offsets = maps[:, :, :3].double(), maps[:, :, 3].double()
    offsets = ((offsets + (matrices * (1.0 / size - 1.0)).sum(dim=2) + 1.0) * size - 1.0) / 2.0
    return torch.cat([matrices * size[:, None] / size, offsets[:, :, None]], dim=2).float()


@kernel
def _resample_all(crops: Floats, maps: Floats, moved: Floats) -> None:
    """Fill `moved` [N, C, D, H, W] row by row: the places along a row once, then each channel's values there."""
    count, channels, depth, height, width = crops.shape
    starts, fractions = np.empty(width, np.int32), np.empty((3, width), np.float32)
    edges = (np.float32(depth - 1), np.float32(height - 1), np.float32(width - 1))
    for case in range(count):
        a = maps[case]
        for i in range(depth):
            for j in range(height):
                x0 = a[0, 0] * np.float32(i) + a[0, 1] * np.float32(j) + a[0, 3]
                y0 = a[1, 0] * np.float32(i) + a[1, 1] * np.float32(j) + a[1, 3]
                z0 = a[2, 0] * np.float32(i) + a[2, 1] * np.float32(j) + a[2, 3]
                for k in range(width):
                    x = min(max(x0 + a[0, 2] * np.float32(k), np.float32(0.0)), edges[0])
                    y = min(max(y0 + a[1, 2] * np.float32(k), np.float32(0.0)), edges[1])
                    z = min(max(z0 + a[2, 2] * np.float32(k), np.float32(0.0)), edges[2])
                    left = min(np.int32(x), np.int32(depth - 2))
                    front = min(np.int32(y), np.int32(height - 2))
                    low = min(np.int32(z), np.int32(width - 2))
                    fractions[0, k] = x - np.float32(left)
                    fractions[1, k] = y - np.float32(front)
                    fractions[2, k] = z - np.float32(low)
                    starts[k] = (left * np.int32(height) + front) * np.int32(width) + low
                for channel in range(channels):
                    _interpolate(
                        crops[case, channel].reshape(-1), starts, fractions, moved[case, channel, i, j], height
                    )


@kernel
def _interpolate(values: Floats, starts: NDArray[np.int32], fractions: Floats, row: Floats, height: int) -> None:
    """Fill `row` from the eight neighbours of each place in one channel of one crop."""
    width = len(row)
    plane = height * width
    for k in range(width):
        at, along, across, deep = starts[k], fractions[2, k], fractions[1, k], fractions[0, k]
        near_low = values[at] + along * (values[at + 1] - values[at])
        at += width
        near_high = values[at] + along * (values[at + 1] - values[at])
        at += plane
        far_high = values[at] + along * (values[at + 1] - values[at])
        at -= width
        far_low = values[at] + along * (values[at + 1] - values[at])
        near, far = near_low + across * (near_high - near_low), far_low + across * (far_high - far_low)
        row[k] = near + deep * (far - near)
