"""Group cases by their embeddings, without labels: what the strategies against imbalance count by.

References:
    Dhillon and Modha, Machine Learning 42 (2001), Sec. 3: k-means on unit vectors.
    Ben-Hur, Elisseeff and Guyon, Pacific Symposium on Biocomputing 2002: the number of clusters by stability.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

Groups = NDArray[np.intp]
Matrix = NDArray[np.float64]

CANDIDATES = range(2, 9)
REFITS = 6  # bootstrap refits of each candidate
TIE = 0.02  # of stability: what is closer counts as equal, and the larger number of clusters is taken


def find_clusters(embeddings: Matrix, k: int | str, seed: int) -> Groups:
    """Group cases by k-means on their unit-length embeddings; tiny clusters join the nearest.

    Args:
        embeddings: [N, d], of the encoder in evaluation mode.
        k: how many clusters at most, or "auto": see `choose_k`.
        seed: of the initial centres.

    Returns:
        [N] cluster ids from 0; there may be fewer than k clusters, down to one where the embeddings have collapsed.
    """
    units = _to_units(embeddings)
    count = k if isinstance(k, int) else choose_k(embeddings, seed)
    count = min(count, _count_distinct(units))
    return merge_tiny(embeddings, np.asarray(_fit(units, count, seed).labels_, dtype=np.intp))


def choose_k(embeddings: Matrix, seed: int, candidates: Sequence[int] = CANDIDATES, refits: int = REFITS) -> int:
    """Return the number of clusters that bootstrap refits agree on best.

    Stability favours few clusters, for a coarse grouping of true clusters may be as stable as they are: among equals
    the largest is taken.

    Args:
        embeddings: [N, d].
        seed: of the bootstrap and the initial centres.
        candidates: increasing; those that the data cannot fill are left out.
        refits: of each candidate.
    """
    distinct = _count_distinct(_to_units(embeddings))
    possible = [k for k in candidates if k <= distinct // 2]
    if not possible:
        return 1
    found = np.array([stability(embeddings, k, seed, refits) for k in possible])
    return possible[int(np.flatnonzero(found >= found.max() - TIE)[-1])]


def stability(embeddings: Matrix, k: int, seed: int, refits: int = REFITS) -> float:
    """Return the mean adjusted Rand index between the groupings of all cases by fits to bootstrap samples of them."""
    rng, units = np.random.default_rng([seed, k]), _to_units(embeddings)
    groupings = []
    for _ in range(refits):
        drawn = units[rng.integers(len(units), size=len(units))]
        fitted = _fit(drawn, min(k, _count_distinct(drawn)), int(rng.integers(2**31)), starts=2)
        groupings.append(fitted.predict(units))
    return float(np.mean([adjusted_rand_score(a, b) for a, b in combinations(groupings, 2)]))


def merge_tiny(embeddings: Matrix, clusters: Groups) -> Groups:
    """Join each cluster of fewer than max(5, 2 % of N) cases, smallest first, to the one of the nearest direction.

    Returns:
        [N] ids from 0 without gaps, in the order they had.
    """
    units, merged = _to_units(embeddings), np.unique(clusters, return_inverse=True)[1].reshape(-1)
    least = max(5.0, 0.02 * len(clusters))
    while (sizes := np.bincount(merged)).min() < least and len(sizes) > 1:
        tiny = int(sizes.argmin())
        directions = _to_units(np.stack([units[merged == each].mean(axis=0) for each in range(len(sizes))]))
        closeness = directions @ directions[tiny]
        closeness[tiny] = -np.inf
        merged[merged == tiny] = closeness.argmax()
        merged = np.unique(merged, return_inverse=True)[1].reshape(-1)
    return np.asarray(merged, dtype=np.intp)


def shuffled_clusters(rng: np.random.Generator, clusters: Groups) -> Groups:
    """Return the same ids dealt out at random: the control that has the clusters' sizes but not their content."""
    return rng.permutation(clusters)


def agreement(clusters: Groups, traits: Mapping[str, NDArray[np.generic]]) -> dict[str, float]:
    """Return the normalised mutual information, 0 to 1, of the clusters with each trait.

    Args:
        clusters: [N].
        traits: [N] each, by name: class, site, volume tertile; cases whose trait is "" are left out.

    Returns:
        By name; 0 where no case has the trait.
    """
    found = {}
    for name, values in traits.items():
        known = values.astype(str) != ""
        score = normalized_mutual_info_score(values[known].astype(str), clusters[known]) if known.any() else 0.0
        found[name] = float(score)
    return found


def tertiles(values: NDArray[np.float64]) -> Groups:
    """Return 0, 1 or 2 for each value: the lowest, middle and highest third."""
    return np.asarray(np.searchsorted(np.quantile(values, [1 / 3, 2 / 3]), values, side="left"), dtype=np.intp)


def _fit(units: Matrix, k: int, seed: int, starts: int = 4) -> KMeans:
    return KMeans(n_clusters=k, n_init=starts, random_state=seed).fit(units)


def _to_units(vectors: Matrix) -> Matrix:
    lengths: Matrix = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12), dtype=np.float64)


def _count_distinct(units: Matrix) -> int:
    """Return how many rows differ, told apart by where they lie along one direction."""
    direction = np.random.default_rng(0).standard_normal(units.shape[1])
    return len(np.unique((units @ direction).round(9)))
