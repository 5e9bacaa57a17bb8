"""SE: compose the batches of an epoch against the imbalance among the cases.

    A  each batch takes its share of every cluster, up to rounding, the cases that were used least first
    B  each batch is chosen from a pool of four times its size so that the clusters are as even as possible
    C  each place of a batch draws its cluster c with probability in proportion to n_c^(1 - alpha), then a case of it

alpha = 1 gives all clusters equal shares; alpha = 0 leaves them as they are. An epoch has as many batches as without.

References:
    Variants of sample selection, the idea of arXiv 2103.04167; which one that paper uses is not known here.
    A: stratified batches, arXiv 2503.18709.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from training.config import Balance

Groups = NDArray[np.intp]
Rows = NDArray[np.intp]
Vector = NDArray[np.float64]
Batches = list[Rows]

POOL = 4  # times the batch


def draw_epoch(
    rng: np.random.Generator,
    clusters: Groups,
    batch: int,
    balance: Balance,
    usage: NDArray[np.int64],
    group: Callable[[Rows], Groups] | None = None,
) -> Batches:
    """Draw an epoch's batches by the variant of SE that `balance` names.

    Args:
        rng: advanced.
        clusters: [N].
        batch: B, at most N.
        balance: variant and alpha.
        usage: [N] how often each case was used before; see `count_usage`. Variant A goes by it.
        group: for variant B, from the rows of a pool to their clusters; `clusters` where absent.

    Returns:
        N // B arrays of B rows.
    """
    if balance.variant == "A":
        return draw_stratified(rng, clusters, batch, balance.alpha, usage)
    if balance.variant == "B":
        return draw_from_pools(rng, len(clusters), batch, group or clusters.__getitem__)
    return draw_tempered(rng, clusters, batch, balance.alpha)


def draw_plain(rng: np.random.Generator, count: int, batch: int) -> Batches:
    """Return the batches of a random order of `count` cases; the last ones that do not fill a batch are left out."""
    order = rng.permutation(count)
    return [order[start : start + batch] for start in range(0, count - batch + 1, batch)]


def draw_stratified(
    rng: np.random.Generator, clusters: Groups, batch: int, alpha: float, usage: NDArray[np.int64]
) -> Batches:
    """Draw batches with floor or ceil of B s_c cases of each cluster c, s_c its tempered share (SE-A)."""
    used, members = usage.copy(), [np.flatnonzero(clusters == c) for c in range(int(clusters.max()) + 1)]
    shares = cluster_shares(clusters, alpha)
    batches = []
    for _ in range(len(clusters) // batch):
        quotas = _round_randomly(rng, batch * shares)
        parts = [_take_least_used(rng, rows, size, used) for rows, size in zip(members, quotas, strict=True)]
        batches.append(rng.permutation(np.concatenate(parts)))
    return batches


def draw_from_pools(rng: np.random.Generator, count: int, batch: int, group: Callable[[Rows], Groups]) -> Batches:
    """Draw a pool for each batch and choose from it evenly (SE-B); `group` gives the clusters of a pool's rows."""
    batches = []
    for _ in range(count // batch):
        pool = rng.choice(count, size=min(POOL * batch, count), replace=False)
        batches.append(pool[choose_evenly(rng, group(pool), batch)])
    return batches


def choose_evenly(rng: np.random.Generator, clusters: Groups, size: int) -> Rows:
    """Choose `size` of the cases [P] so that the clusters' counts are as equal as possible.

    The cases of each cluster are numbered in random order; the lowest numbers are taken.
    """
    shuffled = rng.permutation(len(clusters))
    by_cluster = shuffled[np.argsort(clusters[shuffled], kind="stable")]
    _, starts, sizes = np.unique(clusters[by_cluster], return_index=True, return_counts=True)
    numbers = np.arange(len(clusters)) - np.repeat(starts, sizes)
    return rng.permutation(by_cluster[np.lexsort([rng.random(len(clusters)), numbers])[:size]])


def draw_tempered(rng: np.random.Generator, clusters: Groups, batch: int, alpha: float) -> Batches:
    """Draw every case on its own, its cluster in proportion to n_c^(1 - alpha) (SE-C)."""
    chances = cluster_shares(clusters, alpha) / np.maximum(np.bincount(clusters), 1)
    chance = chances[clusters]
    steps = len(clusters) // batch
    drawn = rng.choice(len(clusters), size=(steps, batch), p=chance / chance.sum())
    return list(np.asarray(drawn, dtype=np.intp))


def cluster_shares(clusters: Groups, alpha: float) -> Vector:
    """Return n_c^(1 - alpha) of each cluster, normalised; 0 for an id that no case has."""
    sizes = np.bincount(clusters).astype(np.float64)
    tempered = np.where(sizes > 0, np.maximum(sizes, 1.0) ** (1.0 - alpha), 0.0)
    return np.asarray(tempered / tempered.sum(), dtype=np.float64)


def count_usage(batches: Batches, count: int) -> NDArray[np.int64]:
    """Return how often each of `count` cases is in the batches: to be added to what was counted before."""
    return np.bincount(np.concatenate(batches), minlength=count) if batches else np.zeros(count, dtype=np.int64)


def _round_randomly(rng: np.random.Generator, wanted: Vector) -> NDArray[np.int64]:
    """Round each to its floor or ceil so that the sum stays, and each on average is what was wanted.

    Systematic sampling: the marks at u, u + 1, ... that fall between one cumulated sum and the next.
    """
    order = rng.permutation(len(wanted))
    # The sum is a whole number; it is made so, lest a rounding error lose a case.
    ends = np.cumsum(wanted[order])
    ends[-1] = np.rint(ends[-1])
    marks = np.floor(ends + rng.random() + 1e-9)
    rounded = np.empty(len(wanted), dtype=np.int64)
    rounded[order] = np.diff(marks, prepend=0.0)
    return rounded


def _take_least_used(rng: np.random.Generator, rows: Rows, size: int, used: NDArray[np.int64]) -> Rows:
    """Take `size` of the rows, least used first, ties at random, all of them again where that is not enough."""
    if not len(rows):
        return rows
    whole, rest = divmod(size, len(rows))
    order = np.lexsort([rng.random(len(rows)), used[rows]])
    taken = np.concatenate([np.tile(rows, whole), rows[order[:rest]]])
    np.add.at(used, taken, 1)
    return taken
