"""The 3D network: a small residual encoder that turns crops into embeddings.

Widths and depth fit cubes of 32 voxels and a few thousand cases; everything is sized by its arguments.

References:
    He et al., arXiv 1512.03385, Fig. 5 left (basic block), with 3D convolutions.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


class Block(nn.Module):
    """Two 3x3x3 convolutions and a shortcut."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Sequential(_convolution(width_in, width, stride), nn.BatchNorm3d(width), nn.ReLU())
        self.second = nn.Sequential(_convolution(width, width, 1), nn.BatchNorm3d(width))
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or width_in != width:
            pointwise = nn.Conv3d(width_in, width, 1, stride=stride, bias=False)
            self.shortcut = nn.Sequential(pointwise, nn.BatchNorm3d(width))

    def forward(self, x: Tensor) -> Tensor:
        """Return activations [N, width, D / stride, ...]."""
        return torch.relu(self.second(self.first(x)) + self.shortcut(x))


class Encoder(nn.Module):
    """Crops [N, C, 32, 32, 32] to embeddings [N, dimension]; any cube edge that 2 ** len(widths) divides will do.

    Args:
        channels: C, the image channels and, where used, the mask.
        widths: of the stem and of the stages after it; each halves the edge.
        dimension: of the embedding.
    """

    def __init__(self, channels: int, widths: Sequence[int], dimension: int) -> None:
        super().__init__()
        self.channels, self.dimension = channels, dimension
        self.stem = nn.Sequential(_convolution(channels, widths[0], 2), nn.BatchNorm3d(widths[0]), nn.ReLU())
        self.stages = nn.Sequential(*(Block(narrow, wide, 2) for narrow, wide in pairwise(widths)))
        self.embed = nn.Linear(widths[-1], dimension)

    def forward(self, crops: Tensor) -> Tensor:
        """Return embeddings [N, dimension]."""
        x = self.stem(crops)  # [N, widths[0], 16, 16, 16]
        x = self.stages(x)  # [N, widths[-1], 2, 2, 2] with four widths
        x = x.mean(dim=(2, 3, 4))  # [N, widths[-1]]
        return torch.as_tensor(self.embed(x))  # [N, dimension]


def _convolution(width_in: int, width: int, stride: int) -> nn.Conv3d:
    return nn.Conv3d(width_in, width, 3, stride=stride, padding=1, bias=False)
