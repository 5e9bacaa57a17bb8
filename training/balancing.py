"""What a strategy against imbalance does in the course of a training: group cases, compose batches, weigh losses."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.clusters import find_clusters, shuffled_clusters
from training.config import ConfigError, Pretraining
from training.reweighting import (
    batch_weights,
    dro_weights,
    normalise_weights,
    sample_weights,
    start_dro,
    start_memory,
    update_dro,
    update_memory,
    view_strengths,
)
from training.sampling import Batches, count_usage, draw_epoch, draw_plain

Groups = NDArray[np.intp]
Rows = NDArray[np.intp]
Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

BATCHES, GROUPING, POOLS = 2, 3, 4  # streams of random numbers


class Balancer:
    """Plain training until the warm-up is over; from then on what `settings.balance` asks for.

    How often each case was used and how large its losses were is noted from the start, whatever the strategy, so that
    all strategies can share one warm-up.

    Args:
        settings: of the whole pretraining.
        count: N, of the cases.
        seed: all random numbers follow from it and from the epoch's number.
        groups: [N] classes of the cases, for the oracle.

    Raises:
        ConfigError: the oracle has no classes.
    """

    def __init__(self, settings: Pretraining, count: int, seed: int, groups: Groups | None = None) -> None:
        if settings.balance.grouping == "labels" and groups is None:
            raise ConfigError("grouping by labels needs the classes of the cases")
        self.settings, self.count, self.seed, self.groups = settings, count, seed, groups
        self.plain_epochs = round(settings.warmup_share * settings.epochs)
        self.clusters: Groups | None = None
        self._embeddings: Matrix | None = None  # [N, d] at the last refresh
        self._weights: Vector | None = None  # [N] of RE
        self._shares: Vector | None = None  # q [k] of group DRO
        self._usage = np.zeros(count, np.int64)
        self._memory = start_memory(count)  # [N] of BCL
        self._noted: list[tuple[Rows, Tensor]] = []
        self._active = False

    def begin_epoch(self, epoch: int, embed: Callable[[], Matrix]) -> None:
        """Group the cases anew where this epoch is due for it.

        Args:
            epoch: number.
            embed: gives the embeddings [N, d] of all cases by the encoder as it now is.
        """
        balance, since = self.settings.balance, epoch - self.plain_epochs
        self._active = since >= 0 and balance.strategy != "none"
        if not self._active or balance.strategy == "bcl":
            return
        if since % balance.refresh_epochs == 0:
            self._group(epoch, embed())
        elif self._pools:
            self._embeddings = embed()

    def draw_batches(self, epoch: int) -> Batches:
        """Return the rows of each batch of an epoch, and count their use."""
        rng, batch = np.random.default_rng([self.seed, BATCHES, epoch]), self.settings.batch
        if self._active and self.clusters is not None and self.settings.balance.strategy in ("se", "re+se"):
            group = self._make_grouping(epoch) if self._pools else None
            batches = draw_epoch(rng, self.clusters, batch, self.settings.balance, self._usage, group)
        else:
            batches = draw_plain(rng, self.count, batch)
        self._usage = self._usage + count_usage(batches, self.count)
        return batches

    def strengths(self) -> Vector | None:
        """Return how strong each case's views are in this epoch, [N] from 0 to 1; `None` is in full."""
        if self._active and self.settings.balance.strategy == "bcl":
            return view_strengths(self._memory)
        return None

    def weigh(self, rows: Rows, losses: Tensor) -> Tensor | None:
        """Return the weights [B] of a batch's losses, of mean one; note the losses [B]."""
        self._noted.append((rows, losses))
        weights = self._weigh(rows, losses) if self._active else None
        return None if weights is None else torch.from_numpy(weights).to(losses)

    def end_epoch(self) -> None:
        """Remember the losses that were noted."""
        for rows, losses in self._noted:
            seen = losses.double().cpu().numpy()
            self._memory = update_memory(self._memory, rows, seen, self.settings.balance.ema)
        self._noted.clear()

    def cluster_sizes(self) -> tuple[int, ...]:
        """Return how many cases each cluster has; nothing without clusters."""
        return () if self.clusters is None else tuple(np.bincount(self.clusters).tolist())

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint must hold."""
        arrays = {
            "clusters": self.clusters,
            "embeddings": self._embeddings,
            "weights": self._weights,
            "shares": self._shares,
            "usage": self._usage,
            "memory": self._memory,
        }
        return {name: None if values is None else torch.from_numpy(values.copy()) for name, values in arrays.items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up what `state` returned."""
        arrays: dict[str, Any] = {name: None if each is None else each.numpy() for name, each in state.items()}
        self.clusters, self._embeddings = arrays["clusters"], arrays["embeddings"]
        self._weights, self._shares = arrays["weights"], arrays["shares"]
        self._usage, self._memory = arrays["usage"], arrays["memory"]

    @property
    def _pools(self) -> bool:
        """Whether batches are chosen from pools that are clustered on their own."""
        balance = self.settings.balance
        return balance.strategy == "se" and balance.variant == "B" and balance.grouping == "embeddings"

    def _group(self, epoch: int, embeddings: Matrix) -> None:
        balance = self.settings.balance
        rng = np.random.default_rng([self.seed, GROUPING, epoch])
        self._embeddings = embeddings
        if balance.grouping == "labels":
            self.clusters = self.groups
        else:
            self.clusters = find_clusters(embeddings, balance.clusters, int(rng.integers(2**31)))
        if self.clusters is not None and balance.grouping == "shuffled":
            order = shuffled_clusters(rng, np.arange(self.count))
            self.clusters, self._embeddings = self.clusters[order], embeddings[order]
        self._weights = sample_weights(self._grouping(slice(None)), balance)
        self._shares = start_dro(self._ids(slice(None)))

    def _make_grouping(self, epoch: int) -> Callable[[Rows], Groups]:
        """Return how a pool of rows is clustered, into as many clusters as all cases are."""
        rng = np.random.default_rng([self.seed, POOLS, epoch])
        embeddings, count = self._embeddings, len(self.cluster_sizes())
        if embeddings is None:
            raise ConfigError("there is nothing to cluster pools by")
        return lambda rows: find_clusters(embeddings[rows], count, int(rng.integers(2**31)))

    def _weigh(self, rows: Rows, losses: Tensor) -> Vector | None:
        balance = self.settings.balance
        if balance.strategy in ("re", "re+se") and self._weights is not None:
            if balance.scope == "batch":
                return batch_weights(self._grouping(rows), balance)
            return normalise_weights(self._weights[rows])
        if balance.strategy == "dro" and self._shares is not None:
            ids = self._ids(rows)
            self._shares = update_dro(self._shares, ids, losses.double().cpu().numpy(), balance.eta)
            return dro_weights(self._shares, ids)
        return None

    def _grouping(self, rows: Rows | slice) -> Groups | Matrix:
        """Return what RE weighs by: clusters, or for its variant E embeddings."""
        if self.settings.balance.variant == "E" and self._embeddings is not None:
            return self._embeddings[rows]
        return self._ids(rows)

    def _ids(self, rows: Rows | slice) -> Groups:
        if self.clusters is None:
            raise ConfigError("there are no clusters before the warm-up is over")
        return self.clusters[rows]
