import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from training.config import Balance
from training.sampling import (
    POOL,
    choose_evenly,
    cluster_shares,
    count_usage,
    draw_epoch,
    draw_plain,
    draw_stratified,
    draw_tempered,
)

CLUSTERS = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [70, 23, 7]))
FRESH = np.zeros(len(CLUSTERS), dtype=np.int64)


def se(variant, alpha=1.0):
    return Balance(strategy="se", variant=variant, alpha=alpha)


@pytest.mark.parametrize("variant", ["A", "B", "C"])
def test_epochs_have_whole_batches_and_follow_from_the_seed(variant):
    def draw(seed):
        return draw_epoch(np.random.default_rng(seed), CLUSTERS, 16, se(variant), FRESH)

    batches = draw(0)
    assert [len(batch) for batch in batches] == [16] * 6
    assert all(((batch >= 0) & (batch < 100)).all() for batch in batches)
    assert all((a == b).all() for a, b in zip(batches, draw(0), strict=True))
    assert any((a != b).any() for a, b in zip(batches, draw(1), strict=True))
    assert FRESH.sum() == 0


def test_plain_batches_use_no_case_twice():
    batches = draw_plain(np.random.default_rng(0), 50, 16)
    assert [len(batch) for batch in batches] == [16, 16, 16]
    assert len(set(np.concatenate(batches).tolist())) == 48


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=6), st.integers(1, 24), st.floats(0.0, 1.0), st.integers(0, 999)
)
def test_stratified_batches_take_floor_or_ceil_of_each_share(sizes, batch, alpha, seed):
    clusters = np.repeat(np.arange(len(sizes)), sizes)
    batch = min(batch, len(clusters))
    usage = np.zeros(len(clusters), dtype=np.int64)
    wanted = [batch * n ** (1 - alpha) / sum(m ** (1 - alpha) for m in sizes) for n in sizes]
    for drawn in draw_stratified(np.random.default_rng(seed), clusters, batch, alpha, usage):
        taken = np.bincount(clusters[drawn], minlength=len(sizes))
        assert taken.sum() == batch
        for count, share in zip(taken, wanted, strict=True):
            assert math.floor(share - 1e-6) <= count <= math.ceil(share + 1e-6)


def test_stratified_shares_are_met_on_average():
    rng = np.random.default_rng(0)
    batches = [batch for _ in range(200) for batch in draw_stratified(rng, CLUSTERS, 16, 1.0, FRESH)]
    means = np.bincount(CLUSTERS[np.concatenate(batches)]) / len(batches)
    assert means == pytest.approx([16 / 3] * 3, abs=0.06)


def test_least_used_cases_come_first():
    usage = np.where(np.arange(100) % 2 == 0, 5, 0)
    batches = draw_stratified(np.random.default_rng(0), CLUSTERS, 16, 1.0, usage)
    first = batches[0]
    for cluster in range(3):
        fresh = np.flatnonzero((cluster == CLUSTERS) & (usage == 0))
        taken = first[CLUSTERS[first] == cluster]
        assert set(taken) <= set(fresh) or set(fresh) <= set(taken)


def test_usage_within_a_cluster_stays_even_over_epochs():
    rng, usage = np.random.default_rng(0), FRESH
    for _ in range(5):
        usage = usage + count_usage(draw_epoch(rng, CLUSTERS, 16, se("A"), usage), 100)
    assert usage.sum() == 5 * 96
    assert all(np.ptp(usage[cluster == CLUSTERS]) <= 1 for cluster in range(3))


def test_cluster_smaller_than_its_share_is_repeated_evenly():
    clusters = np.repeat([0, 1], [29, 3])
    batch = draw_stratified(np.random.default_rng(0), clusters, 16, 1.0, np.zeros(32, dtype=int))[0]
    assert sorted(np.bincount(batch, minlength=32)[29:]) == [2, 3, 3]


def slow_even_counts(sizes, total):
    """Give one place after the other to the cluster that has least and has cases left."""
    counts = [0] * len(sizes)
    for _ in range(total):
        open_ = [c for c in range(len(sizes)) if counts[c] < sizes[c]]
        counts[min(open_, key=lambda c: counts[c])] += 1
    return sorted(counts)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 20), min_size=1, max_size=6).filter(sum), st.integers(1, 30), st.integers(0, 999))
def test_chosen_counts_are_as_even_as_can_be(sizes, size, seed):
    rng = np.random.default_rng(seed)
    clusters = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    size = min(size, len(clusters))
    chosen = choose_evenly(rng, clusters, size)
    assert len(set(chosen.tolist())) == size
    counts = np.bincount(clusters[chosen], minlength=len(sizes))
    levels = [count for count, most in zip(counts, sizes, strict=True) if count < most]
    assert not levels or counts.max() <= min(levels) + 1
    assert sorted(counts[counts > 0]) == [count for count in slow_even_counts(sizes, size) if count]


def test_every_case_of_a_cluster_is_as_likely_to_be_chosen():
    rng, clusters = np.random.default_rng(0), np.repeat([0, 1], [12, 4])
    counts = sum(np.bincount(choose_evenly(rng, clusters, 8), minlength=16) for _ in range(3000))
    assert ((counts[:12] - 1000) ** 2 / 1000).sum() < chi2.ppf(0.999, 11)
    assert (counts[12:] == 3000).all()


def test_pools_are_grouped_by_what_is_given():
    seen = []

    def group(rows):
        seen.append(rows)
        return rows % 2

    batches = draw_epoch(np.random.default_rng(0), np.zeros(200, dtype=np.intp), 16, se("B"), FRESH, group)
    assert all(len(set(pool.tolist())) == POOL * 16 for pool in seen)
    assert len(seen) == len(batches) == 12
    assert all((batch % 2).sum() == 8 for batch in batches)
    assert all(set(batch) <= set(pool) for batch, pool in zip(batches, seen, strict=True))


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_tempered_frequencies_pass_a_chi_square_test(alpha):
    clusters = np.tile(CLUSTERS, 50)
    drawn = np.concatenate(draw_tempered(np.random.default_rng(5), clusters, 50, alpha))
    sizes = np.bincount(clusters) ** (1.0 - alpha)
    expected = len(drawn) * sizes / sizes.sum()
    assert ((np.bincount(clusters[drawn]) - expected) ** 2 / expected).sum() < chi2.ppf(0.99, 2)
    # And the test can fail: the other end of the tempering is far outside.
    other = np.bincount(clusters) ** (alpha if alpha != 0.5 else 0.0)
    wrong = len(drawn) * other / other.sum()
    assert ((np.bincount(clusters[drawn]) - wrong) ** 2 / wrong).sum() > chi2.ppf(0.9999, 2)


def test_shares_ignore_ids_without_cases_and_run_from_sizes_to_even():
    clusters = np.repeat([0, 2], [6, 2])
    assert cluster_shares(clusters, 0.0) == pytest.approx([0.75, 0.0, 0.25])
    assert cluster_shares(clusters, 1.0) == pytest.approx([0.5, 0.0, 0.5])
    assert cluster_shares(clusters, 0.5) == pytest.approx([6**0.5 / (6**0.5 + 2**0.5), 0.0, 2**0.5 / (6**0.5 + 2**0.5)])
    batches = draw_stratified(np.random.default_rng(0), clusters, 4, 1.0, np.zeros(8, dtype=int))
    assert all(np.bincount(clusters[batch]).tolist() == [2, 0, 2] for batch in batches)


def test_usage_counts_every_place_of_every_batch():
    assert count_usage([np.array([0, 1, 1]), np.array([1, 3, 0])], 5).tolist() == [2, 3, 0, 1, 0]
    assert count_usage([], 3).tolist() == [0, 0, 0]
