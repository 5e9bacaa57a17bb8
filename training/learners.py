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
from training.objectives import infonce_loss, vicreg_loss
from training.pretexts import (
    GenesisNet,
    GenesisParams,
    RubikNet,
    RubikParams,
    apply_genesis,
    apply_rubik,
    draw_genesis,
    draw_rubik,
    genesis_loss,
    rubik_loss,
    split_cells,
)
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


class Predicting(nn.Module):
    """SimSiam's branch on both views, one after the other: batch statistics are those of one view."""

    def __init__(self, branch: SimSiam) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, first: Tensor, second: Tensor) -> tuple[Tensor, ...]:
        """Return z1, p1, z2, p2."""
        return (*self.branch(first), *self.branch(second))


class Projecting(nn.Module):
    """Encoder and projector on both views. The projector's last layer is linear: VICReg judges its variance."""

    def __init__(self, encoder: Encoder, width: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = SimSiam(encoder, encoder.dimension, width).projector[:-1]

    def forward(self, first: Tensor, second: Tensor) -> tuple[Tensor, ...]:
        """Return z1, z2."""
        return self.projector(self.encoder(first)), self.projector(self.encoder(second))


class TwoViews:
    """Two views of a crop are compared: SimSiam, VICReg, InfoNCE."""

    def __init__(self, encoder: Encoder, settings: Pretraining, image_channels: int) -> None:
        self._settings, self._image_channels = settings, image_channels
        self.model: nn.Module = Projecting(encoder, settings.width)
        if settings.objective == "simsiam":
            self.model = Predicting(SimSiam(encoder, encoder.dimension, settings.width))

    def draw(self, rng: np.random.Generator, count: int, strengths: Strengths) -> tuple[ViewParams, ViewParams]:
        """Draw two views of each crop."""
        ranges = self._settings.views
        return draw_view_params(rng, count, ranges, strengths), draw_view_params(rng, count, ranges, strengths)

    def make_batch(self, crops: Tensor, rows: Rows, drawn: tuple[ViewParams, ViewParams], share: slice) -> Batch:
        """Return the two views."""
        parts = (view.part(share.start, share.stop) for view in drawn)
        return Batch(rows, tuple(apply_view(crops, part, self._image_channels) for part in parts))

    def find_losses(self, outputs: tuple[Tensor, ...], batch: Batch, world: World) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """Return the losses, and the projections of the first views."""
        if self._settings.objective == "simsiam":
            z1, p1, z2, p2 = outputs
            return world.gather(simsiam_loss((z1, p1), (z2, p2))), world.gather(z1.detach())
        z1, z2 = (world.gather(z) for z in outputs)  # each case is compared with the whole batch
        return (vicreg_loss if self._settings.objective == "vicreg" else infonce_loss)(z1, z2), z1.detach()


class Rubik:
    """The order and the turns of a crop's cells are told."""

    def __init__(self, encoder: Encoder, settings: Pretraining) -> None:
        self.model: nn.Module = RubikNet(encoder, settings.width)

    def draw(self, rng: np.random.Generator, count: int, strengths: Strengths) -> RubikParams:  # noqa: ARG002
        """Draw orders and turns."""
        return draw_rubik(rng, count)

    def make_batch(self, crops: Tensor, rows: Rows, drawn: RubikParams, share: slice) -> Batch:
        """Return the cells as they are shown; orders and turns are the targets."""
        part = drawn.part(share.start, share.stop)
        return Batch(rows, (apply_rubik(split_cells(crops), part),), (part.orders, part.turns))

    def find_losses(self, outputs: tuple[Tensor, ...], batch: Batch, world: World) -> tuple[Tensor, Tensor]:
        """Return the losses, and the embeddings about their mean."""
        order_logits, turn_logits, f = outputs
        losses = rubik_loss(order_logits, turn_logits, RubikParams(*batch.targets))
        return world.gather(losses), centre(world.gather(f.detach()))


class Genesis:
    """Crops are restored from what is left of them."""

    def __init__(self, encoder: Encoder, image_channels: int) -> None:
        self.model: nn.Module = GenesisNet(encoder, image_channels)
        self._image_channels = image_channels

    def draw(self, rng: np.random.Generator, count: int, strengths: Strengths) -> GenesisParams:  # noqa: ARG002
        """Draw what is done to the crops."""
        return draw_genesis(rng, count)

    def make_batch(self, crops: Tensor, rows: Rows, drawn: GenesisParams, share: slice) -> Batch:
        """Return the distorted crops; the crops are the targets."""
        part = drawn.part(share.start, share.stop)
        return Batch(rows, (apply_genesis(crops, part, self._image_channels),), (crops,))

    def find_losses(self, outputs: tuple[Tensor, ...], batch: Batch, world: World) -> tuple[Tensor, Tensor]:
        """Return the losses, and the embeddings about their mean."""
        restored, f = outputs
        return world.gather(genesis_loss(restored, batch.targets[0])), centre(world.gather(f.detach()))


def centre(f: Tensor) -> Tensor:
    """Return embeddings less their mean, which no normalisation has taken away and which would hide their spread."""
    return f - f.mean(dim=0)


def make_learner(encoder: Encoder, settings: Pretraining, image_channels: int) -> Learner:
    """Return the learner of `settings.objective` around `encoder`."""
    if settings.objective == "rubik":
        return Rubik(encoder, settings)
    if settings.objective == "genesis":
        return Genesis(encoder, image_channels)
    return TwoViews(encoder, settings, image_channels)
