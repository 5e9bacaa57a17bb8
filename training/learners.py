"""What a step learns from: how inputs are made of crops, the network around the encoder, and a loss per case."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from training.config import Pretraining
from training.distributed import World
from training.encoder import Encoder
from training.method import SimSiam, simsiam_loss
from training.views import ViewParams, apply_view, draw_view_params

Strengths = NDArray[np.float64] | None
Rows = NDArray[np.intp]


@dataclass(frozen=True)
class Batch:
    """One process's share of a batch, ready for a step: the network's inputs, and what its outputs are held against."""

    rows: Rows  # of the whole batch
    inputs: tuple[Tensor, ...]
    targets: tuple[Tensor, ...] = ()


class Learner(Protocol):
    """One objective. `model` holds the encoder and is what the optimiser and the checkpoint see."""

    model: nn.Module

    def draw(self, rng: np.random.Generator, count: int, strengths: Strengths) -> Any:
        """Draw what is random about a whole batch."""

    def make_batch(self, crops: Tensor, rows: Rows, drawn: Any, share: slice) -> Batch:
        """Make one process's inputs from its crops: the part `share` of the batch's `rows`."""

    def find_losses(self, outputs: tuple[Tensor, ...], batch: Batch, world: World) -> tuple[Tensor, Tensor]:
        """Return the loss of each case of the whole batch, and the vectors whose spread tells of collapse."""


class TwoViews(nn.Module):
    """Run both views through encoder, projector and predictor, one after the other: statistics are of one view."""

    def __init__(self, branch: SimSiam) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, first: Tensor, second: Tensor) -> tuple[Tensor, ...]:
        """Return z1, p1, z2, p2."""
        return (*self.branch(first), *self.branch(second))


class SimSiamLearner:
    """Two views of a crop predict each other (arXiv 2011.10566)."""

    def __init__(self, encoder: Encoder, settings: Pretraining, image_channels: int) -> None:
        self.model: nn.Module = TwoViews(SimSiam(encoder, encoder.dimension, settings.width))
        self._settings, self._image_channels = settings, image_channels

    def draw(self, rng: np.random.Generator, count: int, strengths: Strengths) -> tuple[ViewParams, ViewParams]:
        """Draw two views of each crop."""
        ranges = self._settings.views
        return draw_view_params(rng, count, ranges, strengths), draw_view_params(rng, count, ranges, strengths)

    def make_batch(self, crops: Tensor, rows: Rows, drawn: tuple[ViewParams, ViewParams], share: slice) -> Batch:
        """Return the two views."""
        parts = (view.part(share.start, share.stop) for view in drawn)
        return Batch(rows, tuple(apply_view(crops, part, self._image_channels) for part in parts))

    def find_losses(self, outputs: tuple[Tensor, ...], batch: Batch, world: World) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """Return the symmetric loss, and the first projections."""
        z1, p1, z2, p2 = outputs
        return world.gather(simsiam_loss((z1, p1), (z2, p2))), world.gather(z1.detach())


def make_learner(encoder: Encoder, settings: Pretraining, image_channels: int) -> Learner:
    """Return the learner of `settings.objective` around `encoder`."""
    return SimSiamLearner(encoder, settings, image_channels)
