import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from training.config import Balance
from training.reweighting import (
    batch_weights,
    dro_weights,
    neighbour_density,
    normalise_weights,
    sample_weights,
    start_dro,
    start_memory,
    update_dro,
    update_memory,
    view_strengths,
)
from training.sampling import cluster_shares

CLUSTERS = np.array([0] * 12 + [1] * 6 + [2] * 2)


def re(variant, **values):
    return Balance(strategy="re", variant=variant, **values)


def slow_weight(cluster, clusters, balance):
    """The formulas of the module's head, one case at a time."""
    size = sum(1 for each in clusters if each == cluster)
    share = size / len(clusters)
    if balance.variant == "A":
        return 1.0 / (share + balance.constant) ** balance.alpha
    if balance.variant == "C":
        return math.exp(-balance.alpha * math.log(share))
    return (1.0 - balance.beta) / (1.0 - math.prod([balance.beta] * size))


@pytest.mark.parametrize(
    "balance", [re("A"), re("A", constant=0.3), re("A", alpha=0.5), re("C", alpha=0.5), re("D", beta=0.9)]
)
def test_weights_equal_the_slow_version(balance):
    expected = [slow_weight(each, CLUSTERS, balance) for each in CLUSTERS]
    assert sample_weights(CLUSTERS, balance) == pytest.approx(expected)


def test_variants_meet_in_their_limits():
    inverse = normalise_weights(sample_weights(CLUSTERS, re("A")))
    assert normalise_weights(sample_weights(CLUSTERS, re("C", alpha=1.0))) == pytest.approx(inverse)
    # The effective number tends to n as beta tends to 1, and to 1 as beta tends to 0.
    assert normalise_weights(sample_weights(CLUSTERS, re("D", beta=1 - 1e-7))) == pytest.approx(inverse, rel=1e-5)
    assert normalise_weights(sample_weights(CLUSTERS, re("D", beta=1e-6))) == pytest.approx(1.0, rel=1e-5)
    assert normalise_weights(sample_weights(CLUSTERS, re("C", alpha=0.0))) == pytest.approx(1.0)
    assert normalise_weights(sample_weights(CLUSTERS, re("A", constant=1e6))) == pytest.approx(1.0, rel=1e-5)


@pytest.mark.parametrize("variant", ["A", "C", "D"])
def test_rarer_clusters_weigh_more_whatever_their_ids(variant):
    weights = sample_weights(CLUSTERS, re(variant))
    assert weights[0] < weights[12] < weights[18]
    assert sample_weights(np.array([2, 0, 1])[CLUSTERS], re(variant)) == pytest.approx(weights)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(1e-4, 1e4), min_size=1, max_size=40))
def test_weights_have_mean_one_within_the_clip(values):
    weights = np.array(values)
    normal = normalise_weights(weights)
    assert normal.mean() == pytest.approx(1.0, abs=1e-6)
    assert normal.min() >= 0.2
    assert normal.max() <= 5.0
    order = np.argsort(weights)
    assert (np.diff(normal[order]) >= -1e-9).all()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=30), st.floats(1e-3, 1e3))
def test_scale_of_the_weights_does_not_matter_and_free_ones_keep_their_ratios(values, scale):
    weights = np.array(values)
    normal = normalise_weights(weights)
    assert normalise_weights(scale * weights) == pytest.approx(normal, rel=1e-6)
    free = (normal > 0.2 + 1e-9) & (normal < 5.0 - 1e-9)
    if free.any():
        ratios = normal[free] / weights[free]
        assert ratios == pytest.approx(ratios[0], rel=1e-6)


def test_unclipped_weights_are_divided_by_their_mean():
    assert normalise_weights(np.array([1.0, 2.0, 3.0])) == pytest.approx([0.5, 1.0, 1.5], abs=1e-14)


def test_batch_scope_counts_within_the_batch():
    batch = np.array([0, 0, 0, 2])
    assert batch_weights(batch, re("A")) == pytest.approx([2 / 3, 2 / 3, 2 / 3, 2.0])


def test_inverse_frequency_has_the_expected_gradient_of_even_clusters():
    """RE-A with c = 0 and SE-C with alpha = 1: each place of a batch enumerated over all cases."""
    gradients = np.random.default_rng(0).standard_normal((len(CLUSTERS), 3))
    sizes = np.bincount(CLUSTERS)
    reweighted = sum(
        w * gradient / len(CLUSTERS)
        for w, gradient in zip(batch_weights(CLUSTERS, re("A", constant=0.0)), gradients, strict=True)
    )
    selected = sum(
        cluster_shares(CLUSTERS, 1.0)[cluster] / sizes[cluster] * gradient
        for cluster, gradient in zip(CLUSTERS, gradients, strict=True)
    )
    assert reweighted == pytest.approx(selected, abs=1e-12)


def test_half_strength_on_both_has_the_expected_gradient_of_full_strength_on_one():
    gradients = np.random.default_rng(1).standard_normal((len(CLUSTERS), 3))
    chances = cluster_shares(CLUSTERS, 0.5)[CLUSTERS] / np.bincount(CLUSTERS)[CLUSTERS]
    both = chances * sample_weights(CLUSTERS, re("A", alpha=0.5))
    full = sample_weights(CLUSTERS, re("A"))
    assert (both / both.sum()) @ gradients == pytest.approx((full / full.sum()) @ gradients, abs=1e-12)


def test_density_is_the_inverse_mean_distance_to_the_nearest():
    points = np.random.default_rng(3).standard_normal((25, 4))
    units = [point / math.sqrt(sum(x * x for x in point)) for point in points]
    for case, density in enumerate(neighbour_density(points, 5)):
        near = sorted(math.dist(units[case], other) for at, other in enumerate(units) if at != case)[:5]
        assert density == pytest.approx(5 / sum(near))


def test_outliers_weigh_more_by_density():
    rng = np.random.default_rng(0)
    points = np.array([1.0, 0, 0]) + 0.02 * rng.standard_normal((40, 3))
    points[:4] = np.array([0, 1.0, 0]) + 0.5 * rng.standard_normal((4, 3))
    weights = sample_weights(points, re("E", neighbours=8))
    assert weights[:4].min() > weights[4:].max()
    assert sample_weights(points, re("E", alpha=0.0)) == pytest.approx(1.0)


def test_density_bears_identical_and_single_cases():
    assert np.isfinite(batch_weights(np.ones((6, 3)), re("E"))).all()
    assert batch_weights(np.ones((1, 3)), re("E")).tolist() == [1.0]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.0, 2.0))
def test_dro_keeps_a_distribution_and_equals_the_slow_version(seed, eta):
    rng = np.random.default_rng(seed)
    q = rng.dirichlet(np.ones(3))
    clusters = rng.permutation(np.array([0, 0, 0, 1, 1, 2]))
    losses = rng.uniform(-1, 1, 6)
    raised = [
        q[c] * math.exp(eta * np.mean([x for x, of in zip(losses, clusters, strict=True) if of == c])) for c in range(3)
    ]
    updated = update_dro(q, clusters, losses, eta)
    assert updated == pytest.approx([each / sum(raised) for each in raised])
    assert updated.sum() == pytest.approx(1.0)


def test_dro_raises_the_worst_cluster_until_it_has_all():
    clusters, q = np.array([0, 0, 0, 1, 1, 2]), start_dro(np.array([0, 0, 0, 1, 1, 2]))
    losses = np.array([-0.9, -0.9, -0.9, -0.8, -0.8, -0.2])
    shares = [q]
    for _ in range(400):
        shares.append(update_dro(shares[-1], clusters, losses, 0.1))
    worst = [share[2] for share in shares]
    assert all(late > early or late > 1 - 1e-9 for early, late in pairwise(worst))
    assert worst[-1] > 0.99


def test_dro_leaves_absent_clusters_alone_whatever_the_sign_of_losses():
    q = np.array([0.5, 0.3, 0.2])
    for shift in (-3.0, 0.0, 3.0):
        assert update_dro(q, np.array([0, 0, 1]), np.full(3, shift), 1.0) == pytest.approx(q)


def test_dro_weights_make_the_mean_over_clusters():
    q, clusters = np.array([0.5, 0.3, 0.2]), np.array([0, 0, 0, 1, 1, 2])
    losses = np.random.default_rng(0).standard_normal(6)
    expected = sum(q[c] * losses[clusters == c].mean() for c in range(3))
    assert (dro_weights(q, clusters) * losses).mean() == pytest.approx(expected)


def test_memory_is_a_moving_average_that_starts_with_the_first_loss():
    memory = update_memory(start_memory(3), np.array([0, 2]), np.array([1.0, -1.0]), 0.9)
    assert memory[[0, 2]].tolist() == [1.0, -1.0]
    assert np.isnan(memory[1])
    later = update_memory(memory, np.array([0]), np.array([3.0]), 0.9)
    assert later[0] == pytest.approx(0.9 * 1.0 + 0.1 * 3.0)
    assert memory[0] == 1.0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=2, max_size=30))
@example([1.3692052377191462] * 3)  # their mean rounds to another value
def test_views_are_stronger_the_larger_the_remembered_loss(values):
    memory = np.array(values)
    strengths = view_strengths(memory)
    assert strengths.min() >= 0.0
    assert strengths.max() <= 1.0
    assert (np.diff(strengths[np.argsort(memory)]) >= -1e-12).all()
    assert strengths.mean() == pytest.approx(0.5, abs=1e-6)


def test_strengths_by_hand_and_without_any_memory():
    assert view_strengths(np.array([0.0, 1.0, 5.0])) == pytest.approx([1 / 6, 1 / 3, 1.0])
    assert view_strengths(np.array([np.nan, 1.0, 3.0])) == pytest.approx([0.5, 0.0, 1.0])
    assert view_strengths(start_memory(2)).tolist() == [0.5, 0.5]
