"""What a strategy against imbalance does in the course of a training: group cases, compose batches, weigh losses."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.config import Pretraining

Groups = NDArray[np.intp]
Rows = NDArray[np.intp]
Batches = list[Rows]

BATCHES, GROUPING = 2, 3  # streams of random numbers


class Balancer:
    """Nothing until the plain epochs are over; from then on what `settings.balance` asks for.

    Args:
        settings: of the whole pretraining.
        count: N, of the cases.
        seed: all random numbers follow from it and from the epoch's number.
        groups: [N] classes of the cases, for the oracle.
    """

    def __init__(self, settings: Pretraining, count: int, seed: int, groups: Groups | None = None) -> None:
        self.settings, self.count, self.seed, self.groups = settings, count, seed, groups
        self.clusters: Groups | None = None
        self.plain_epochs = round(settings.warmup_share * settings.epochs)

    def prepare(self, epoch: int, embed: Callable[[], NDArray[np.float64]]) -> None:
        """Group the cases anew where this epoch is due for it; `embed` gives their embeddings [N, d]."""

    def draw_batches(self, epoch: int) -> Batches:
        """Return the rows of each batch of an epoch."""
        rng = np.random.default_rng([self.seed, BATCHES, epoch])
        order = rng.permutation(self.count)
        batch = self.settings.batch
        return [order[start : start + batch] for start in range(0, self.count - batch + 1, batch)]

    def strengths(self) -> NDArray[np.float64] | None:
        """Return how strong each case's views are, [N] from 0 to 1; all in full where there is none."""
        return None

    def weigh(self, rows: NDArray[np.intp], losses: Tensor) -> Tensor | None:
        """Return the weights of a batch's losses, and remember the losses where the strategy goes by them."""
        return None

    def cluster_sizes(self) -> tuple[int, ...]:
        """Return how many cases each cluster has; nothing without clusters."""
        return () if self.clusters is None else tuple(np.bincount(self.clusters).tolist())

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint must hold."""
        return {"clusters": None if self.clusters is None else torch.from_numpy(self.clusters)}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up what `state` returned."""
        self.clusters = None if state["clusters"] is None else state["clusters"].numpy()
