from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score

from training.clusters import agreement, choose_k, find_clusters, merge_tiny, shuffled_clusters, stability, tertiles


def blobs(seed, sizes, dimension=12, noise=0.1):
    """Embeddings around orthogonal directions, and which direction each is of."""
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    lengths = rng.uniform(0.5, 3.0, (len(truth), 1))
    return lengths * (np.eye(dimension)[truth] + noise * rng.standard_normal((len(truth), dimension))), truth


def test_separated_blobs_are_found_whatever_the_lengths_of_the_embeddings():
    embeddings, truth = blobs(0, [120, 40, 25])
    assert adjusted_rand_score(truth, find_clusters(embeddings, 3, seed=0)) == 1.0


def test_same_seed_gives_the_same_clusters():
    embeddings = np.random.default_rng(1).standard_normal((90, 6))
    first, second = find_clusters(embeddings, 4, seed=3), find_clusters(embeddings, 4, seed=3)
    assert (first == second).all()
    assert first.dtype == np.intp


@pytest.mark.parametrize("sizes", [[60, 60], [100, 50, 30], [90, 60, 40, 30, 20]])
def test_planted_number_of_clusters_is_chosen(sizes):
    embeddings, truth = blobs(len(sizes), sizes)
    assert choose_k(embeddings, seed=0) == len(sizes)
    assert adjusted_rand_score(truth, find_clusters(embeddings, "auto", seed=0)) == 1.0


def test_stability_is_full_at_the_planted_number_and_low_without_structure():
    embeddings, _ = blobs(2, [60, 60, 60])
    shapeless = np.random.default_rng(2).standard_normal((180, 12))
    assert stability(embeddings, 3, seed=0) == pytest.approx(1.0)
    assert stability(shapeless, 3, seed=0) < 0.5


def test_collapsed_embeddings_are_one_cluster():
    embeddings = np.tile(np.random.default_rng(0).standard_normal(8), (40, 1))
    assert find_clusters(embeddings, 4, seed=0).tolist() == [0] * 40
    assert find_clusters(embeddings, "auto", seed=0).tolist() == [0] * 40
    assert find_clusters(np.zeros((40, 8)), "auto", seed=0).tolist() == [0] * 40


def test_tiny_cluster_joins_the_nearest_direction():
    directions = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.1, 0.9, 0.3]])
    clusters = np.repeat([0, 1, 2], [20, 20, 4])
    assert merge_tiny(directions[clusters], clusters).tolist() == [0] * 20 + [1] * 24


def test_least_size_grows_with_the_number_of_cases():
    clusters = np.repeat([0, 1, 2], [600, 391, 9])
    assert np.bincount(merge_tiny(np.eye(3)[clusters], clusters)).tolist()[2:] == []
    enough = np.repeat([0, 1, 2], [200, 191, 9])
    assert np.bincount(merge_tiny(np.eye(3)[enough], enough)).tolist() == [200, 191, 9]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=7).filter(lambda sizes: sum(sizes) > 0), st.integers(0, 999))
def test_merged_clusters_are_never_tiny_and_never_split(sizes, seed):
    clusters = np.repeat(np.arange(len(sizes)), sizes)
    merged = merge_tiny(np.random.default_rng(seed).standard_normal((len(clusters), 4)), clusters)
    counts = np.bincount(merged)
    assert counts.min() >= max(5, 0.02 * len(clusters)) or len(counts) == 1
    assert all(len(set(merged[clusters == each])) <= 1 for each in range(len(sizes)))


def test_shuffled_clusters_keep_sizes_but_not_content():
    clusters = np.repeat([0, 1, 2], [200, 60, 40])
    shuffled = shuffled_clusters(np.random.default_rng(0), clusters)
    assert np.bincount(shuffled).tolist() == [200, 60, 40]
    assert abs(adjusted_rand_score(clusters, shuffled)) < 0.05
    assert clusters.tolist() == sorted(clusters)


def slow_nmi(first, second):
    """I(X; Y) over the mean of the entropies, by counting."""

    def entropy(values):
        return -sum(p * np.log(p) for p in (values.count(each) / len(values) for each in set(values)))

    both = list(zip(first, second, strict=True))
    return (entropy(first) + entropy(second) - entropy(both)) / ((entropy(first) + entropy(second)) / 2)


def test_agreement_is_the_normalised_mutual_information_over_known_cases():
    rng = np.random.default_rng(4)
    clusters = rng.integers(3, size=80)
    site = np.array(["a", "b"])[np.where(rng.random(80) < 0.7, clusters > 0, rng.random(80) < 0.5).astype(int)]
    stage = np.where(rng.random(80) < 0.3, "", np.array(["I", "II", "III"])[clusters])
    found = agreement(clusters, {"site": site, "stage": stage, "nothing": np.full(80, "")})
    assert found["site"] == pytest.approx(slow_nmi(clusters.tolist(), site.tolist()))
    assert found["stage"] == pytest.approx(1.0)
    assert found["nothing"] == 0.0


def test_tertiles_hold_a_third_each_and_follow_the_order():
    volumes = np.random.default_rng(0).lognormal(size=90)
    thirds = tertiles(volumes)
    assert np.bincount(thirds).tolist() == [30, 30, 30]
    assert all(volumes[thirds == low].max() < volumes[thirds == high].min() for low, high in combinations(range(3), 2))
