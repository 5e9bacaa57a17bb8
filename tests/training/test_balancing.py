import numpy as np
import pytest
import torch

from training.balancing import Balancer
from training.config import Balance, ConfigError, Pretraining

SIZES = (40, 16, 8)
KINDS = np.repeat(np.arange(3), SIZES)
PLAIN_EPOCHS = 1


def settings(**balance):
    parts = {"clusters": 3, "refresh_epochs": 2} | balance
    return Pretraining(
        epochs=5, batch=16, learning_rate=0.1, width=16, warmup_share=0.2, balance=Balance.model_validate(parts)
    )


def embeddings():
    """Three directions, far apart, of unequal weight among the cases."""
    return np.eye(3)[KINDS] + np.random.default_rng(0).normal(0, 0.01, (64, 3))


def started(epoch=PLAIN_EPOCHS, **balance):
    balancer = Balancer(settings(**balance), 64, seed=5, groups=np.arange(64) % 2)
    balancer.begin_epoch(epoch, embeddings)
    return balancer


def shares(balancer, epoch=PLAIN_EPOCHS):
    """Of the three true groups in an epoch's batches."""
    return np.bincount(KINDS[np.concatenate(balancer.draw_batches(epoch))], minlength=3) / 64


def test_the_warm_up_is_plain_whatever_the_strategy():
    plain = Balancer(settings(), 64, seed=5)
    for strategy in ("re", "se", "re+se", "dro", "bcl"):
        balancer = started(epoch=0, strategy=strategy)
        pairs = zip(balancer.draw_batches(0), plain.draw_batches(0), strict=True)
        plain = Balancer(settings(), 64, seed=5)
        assert all(np.array_equal(a, b) for a, b in pairs)
        assert balancer.weigh(np.arange(16), torch.ones(16)) is None
        assert balancer.strengths() is None
        assert balancer.clusters is None


def test_re_gives_each_cluster_the_same_sum_of_weights_and_leaves_the_batches_alone():
    balancer, plain = started(strategy="re"), started()
    for a, b in zip(balancer.draw_batches(1), plain.draw_batches(1), strict=True):
        assert np.array_equal(a, b)
    weights = balancer.weigh(np.arange(64), torch.zeros(64)).numpy()
    sums = np.bincount(KINDS, weights=weights)
    assert sums == pytest.approx(np.full(3, 64 / 3), rel=1e-5)


def test_se_gives_each_cluster_the_same_share_of_the_batches_and_weighs_nothing():
    balancer = started(strategy="se")
    assert shares(balancer) == pytest.approx(np.full(3, 1 / 3), abs=0.03)
    assert balancer.weigh(np.arange(16), torch.zeros(16)) is None


def test_se_from_pools_evens_the_clusters_out_too():
    assert shares(started(strategy="se", variant="B"))[2] > 1.5 * SIZES[2] / 64


def test_both_together_are_tempered_and_meet_in_the_middle():
    balancer = started(strategy="re+se", variant="C", alpha=0.5)
    seen = shares(balancer)
    weights = balancer.weigh(np.arange(64), torch.zeros(64)).numpy()
    of_group = np.array([weights[group == KINDS].mean() for group in range(3)])
    assert of_group / of_group[0] == pytest.approx(np.sqrt(SIZES[0] / np.array(SIZES)), rel=1e-5)
    assert SIZES[2] / 64 < seen[2] < 1 / 3


def test_shuffled_clusters_have_the_sizes_but_not_the_content():
    true, shuffled = started(strategy="re"), started(strategy="re", grouping="shuffled")
    assert sorted(true.cluster_sizes()) == sorted(shuffled.cluster_sizes()) == sorted(SIZES)
    weights = shuffled.weigh(np.arange(64), torch.zeros(64)).numpy()
    assert len(np.unique(weights[KINDS == 0])) > 1  # one true group holds several of the random ones


def test_shuffled_densities_belong_to_other_cases():
    true = started(strategy="re", variant="E").weigh(np.arange(64), torch.zeros(64)).numpy()
    shuffled = started(strategy="re", variant="E", grouping="shuffled").weigh(np.arange(64), torch.zeros(64)).numpy()
    assert sorted(true) == pytest.approx(sorted(shuffled), rel=1e-5)
    assert not np.allclose(true, shuffled)


def test_the_oracle_balances_the_true_classes_and_needs_them():
    assert started(strategy="se", grouping="labels").cluster_sizes() == (32, 32)
    with pytest.raises(ConfigError, match="classes"):
        Balancer(settings(strategy="se", grouping="labels"), 64, seed=5)


def test_group_dro_turns_to_the_cluster_with_the_larger_loss():
    balancer = started(strategy="dro", eta=1.0)
    losses = torch.where(torch.from_numpy(KINDS == 2), 0.0, -1.0)
    first = balancer.weigh(np.arange(64), losses).numpy()
    for _ in range(5):
        last = balancer.weigh(np.arange(64), losses).numpy()
    assert last[KINDS == 2].mean() > first[KINDS == 2].mean()
    assert last.mean() == pytest.approx(1.0, rel=1e-5)


def test_bcl_strengthens_the_views_of_what_was_hard_in_the_epochs_before():
    balancer = started(epoch=0, strategy="bcl")
    balancer.weigh(np.arange(64), torch.where(torch.from_numpy(KINDS == 2), 0.0, -1.0))
    balancer.end_epoch()
    balancer.begin_epoch(1, embeddings)
    strengths = balancer.strengths()
    assert strengths[KINDS == 2].min() > strengths[KINDS == 0].max()
    assert balancer.weigh(np.arange(64), torch.zeros(64)) is None


def test_cases_are_clustered_when_the_warm_up_ends_and_at_every_refresh():
    asked = []
    balancer = Balancer(settings(strategy="re"), 64, seed=5)
    for epoch in range(5):
        balancer.begin_epoch(epoch, lambda epoch=epoch: asked.append(epoch) or embeddings())
    assert asked == [1, 3]


@pytest.mark.parametrize("strategy", ["re", "se", "re+se", "dro", "bcl"])
def test_a_restored_balance_goes_on_as_the_first_would_have(strategy):
    variant = "C" if strategy == "re+se" else "A"
    first = started(strategy=strategy, variant=variant)
    first.draw_batches(1)
    first.weigh(np.arange(16), torch.linspace(-1, 0, 16))
    first.end_epoch()
    second = Balancer(settings(strategy=strategy, variant=variant), 64, seed=5)
    second.restore(first.state())
    for balancer in (first, second):
        balancer.begin_epoch(2, embeddings)
    for a, b in zip(first.draw_batches(2), second.draw_batches(2), strict=True):
        assert np.array_equal(a, b)
    losses = torch.linspace(0, 1, 16)
    assert str(first.weigh(np.arange(16), losses)) == str(second.weigh(np.arange(16), losses))
    assert str(first.strengths()) == str(second.strengths())
