"""RE: weigh each case's loss against the imbalance among the cases; and two later ideas, group DRO and BCL.

With n_c the size of case i's cluster c among N and p_c = n_c / N:

    A  w_i = (p_c + constant)^-alpha         inverse frequency where constant = 0 and alpha = 1
    C  w_i = p_c^-alpha                      tempered
    D  w_i = (1 - beta) / (1 - beta^n_c)     effective number of samples
    E  w_i = density_i^-alpha                no clusters: density among the nearest neighbours

References:
    A to E: variants of re-weighting, the idea of arXiv 2103.04167; which one that paper uses is not known here.
    D: Cui et al., arXiv 1901.05555, Eq. 2.
    Group DRO: Sagawa et al., arXiv 1911.08731, Algorithm 1.
    BCL: Zhou et al., arXiv 2205.12693 (ICML 2022), Eq. 2 and 3; code: MediaBrain-SJTU/BCL. Theirs: a moving average
    of each case's own loss, less the mean, over the furthest, halved and raised to [0, 1]. Ours: what it strengthens
    (`training.views`: all ranges of a view, in proportion; theirs, in their code, size and chance of one more random
    operation beside the usual ones); SimSiam in place of SimCLR; that cases count as the mean before they are seen (in
    their code such views are at their weakest); and the warm-up at full strength.
"""

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from training.config import Balance

Groups = NDArray[np.intp]
Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

LEAST_WEIGHT, LARGEST_WEIGHT = 0.2, 5.0


def sample_weights(grouping: Groups | Matrix, balance: Balance) -> Vector:
    """Return the weight of each case by its cluster's share among those given.

    Args:
        grouping: [N] cluster ids; for variant E the embeddings [N, d] instead.
        balance: variant and its parameters.

    Returns:
        [N], positive; their scale is arbitrary, see `normalise_weights`.
    """
    if balance.variant == "E":
        return neighbour_density(np.asarray(grouping, dtype=np.float64), balance.neighbours) ** -balance.alpha
    clusters = np.asarray(grouping, dtype=np.intp)
    sizes = np.bincount(clusters)[clusters]
    shares = sizes / len(clusters)
    if balance.variant == "C":
        return np.asarray(shares**-balance.alpha, dtype=np.float64)
    if balance.variant == "D":
        return np.asarray((1.0 - balance.beta) / (1.0 - balance.beta**sizes), dtype=np.float64)
    return np.asarray((shares + balance.constant) ** -balance.alpha, dtype=np.float64)


def batch_weights(grouping: Groups | Matrix, balance: Balance) -> Vector:
    """Return the weights of one batch by the shares within it (scope `batch`), of mean one and clipped."""
    return normalise_weights(sample_weights(grouping, balance))


def normalise_weights(weights: Vector) -> Vector:
    """Scale positive weights so that, clipped to [0.2, 5], their mean is one.

    Otherwise re-weighting would change the learning rate. Clipping after division by the mean would move the mean
    again, so the scale s of mean(clip(s w)) = 1 is sought; it is 1 / mean(w) where nothing is clipped.

    Args:
        weights: [B] of one batch.
    """
    low, high = LEAST_WEIGHT / weights.max(), LARGEST_WEIGHT / weights.min()
    for _ in range(60):
        middle = np.sqrt(low * high)
        if np.clip(middle * weights, LEAST_WEIGHT, LARGEST_WEIGHT).mean() < 1.0:
            low = middle
        else:
            high = middle
    scaled = np.clip(high * weights, LEAST_WEIGHT, LARGEST_WEIGHT)
    free = (scaled > LEAST_WEIGHT) & (scaled < LARGEST_WEIGHT)
    if free.any():
        # Given what is clipped, the scale of the rest is known exactly.
        scaled[free] = weights[free] * (len(weights) - scaled[~free].sum()) / weights[free].sum()
    return np.asarray(np.clip(scaled, LEAST_WEIGHT, LARGEST_WEIGHT), dtype=np.float64)


def neighbour_density(embeddings: Matrix, neighbours: int) -> Vector:
    """Return 1 / (mean distance to the nearest others), on unit-length embeddings.

    The density proper falls with the distance to the power d, which in tens of dimensions leaves a few cases with all
    of the weight; its first power is a choice of ours.

    Args:
        embeddings: [N, d].
        neighbours: fewer where there are fewer others.
    """
    units = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
    count = min(neighbours, len(units) - 1)
    if count < 1:
        return np.ones(len(units))
    distances = NearestNeighbors(n_neighbors=count).fit(units).kneighbors()[0]
    return np.asarray(1.0 / np.maximum(distances.mean(axis=1), 1e-6), dtype=np.float64)


def start_dro(clusters: Groups) -> Vector:
    """Return the even distribution q [k] over the clusters, from which group DRO starts."""
    count = int(clusters.max()) + 1
    return np.full(count, 1.0 / count)


def update_dro(q: Vector, clusters: Groups, losses: Vector, eta: float) -> Vector:
    """Return q_c exp(eta L_c), normalised; L_c is the mean loss of the batch's cases of cluster c.

    Losses enter less the mean over the clusters present. That changes nothing where all are, and leaves an absent
    cluster's share as it is whether losses are negative (SimSiam's) or positive.

    Args:
        q: [k].
        clusters: [B] ids of the batch's cases.
        losses: [B].
        eta: step.
    """
    sizes = np.bincount(clusters, minlength=len(q))
    present = sizes > 0
    means = np.bincount(clusters, weights=losses, minlength=len(q))[present] / sizes[present]
    raised = q.copy()
    raised[present] *= np.exp(eta * (means - means.mean()))
    return np.asarray(raised / raised.sum(), dtype=np.float64)


def dro_weights(q: Vector, clusters: Groups) -> Vector:
    """Return the weights [B] that make the mean loss sum_c q_c L_c over the clusters present, of mean one, clipped."""
    return normalise_weights(q[clusters] / np.bincount(clusters, minlength=len(q))[clusters])


def start_memory(count: int) -> Vector:
    """Return BCL's memory of N losses, nothing seen yet."""
    return np.full(count, np.nan)


def update_memory(memory: Vector, rows: Groups, losses: Vector, ema: float) -> Vector:
    """Return the moving average of each case's own loss; a case's first loss enters in full.

    Args:
        memory: [N], NaN for what was not seen.
        rows: [B] of the batch's cases; where one occurs twice its last loss counts.
        losses: [B].
        ema: share of the old average that is kept.
    """
    updated, old = memory.copy(), memory[rows]
    updated[rows] = np.where(np.isnan(old), losses, ema * old + (1.0 - ema) * losses)
    return updated


def view_strengths(memory: Vector) -> Vector:
    """Return how strong each case's views are, [N]: 1/2 for the mean loss, up to 1 for the one furthest above it.

    Cases that are hard to learn (in the long tail, more often than not) get stronger views; unseen ones count as mean.
    """
    seen = ~np.isnan(memory)
    strengths = np.full(len(memory), 0.5)
    if seen.any():
        away = memory[seen] - memory[seen].mean()
        furthest = np.abs(away).max()
        if furthest > 1e-9 * max(np.abs(memory[seen]).max(), 1.0):  # less is rounding of equal losses
            strengths[seen] += 0.5 * away / furthest
    return np.asarray(np.clip(strengths, 0.0, 1.0), dtype=np.float64)
