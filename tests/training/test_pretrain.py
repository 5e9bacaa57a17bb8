from pathlib import Path

import numpy as np
import pytest
import torch

from training.balancing import Balancer
from training.config import ConfigError, read_config
from training.loop import set_learning_rate
from training.pretrain import Epoch, Run, embed, new_encoder, pretrain, untrained_encoder

CONFIG = read_config(Path(__file__).with_name("tiny.toml"))
SETTINGS, SHAPE = CONFIG.pretraining, CONFIG.encoder
QUIET = Run(device="cpu", progress=False)


def crops(count=64):
    """Balls of many sizes and densities, and their masks."""
    rng = np.random.default_rng(0)
    axis = np.arange(16) - 7.5
    distance = np.sqrt(axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None, :] ** 2)
    inside = distance[None] < rng.uniform(2, 7, count)[:, None, None, None]
    image = np.where(inside, rng.uniform(0, 1, count)[:, None, None, None], -0.8)
    return np.stack([image, inside], axis=1).astype(np.float32)


def run(settings=SETTINGS, given=None, seed=3, **options):
    return pretrain(crops() if given is None else given, SHAPE, settings, seed, run=QUIET, **options)


def same_weights(first, second):
    return all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_plain_batches_are_distinct_cases_in_a_new_order_every_epoch():
    balancer = Balancer(SETTINGS, 50, seed=1)
    first, second = balancer.draw_batches(0), balancer.draw_batches(1)
    assert [len(batch) for batch in first] == [16, 16, 16]
    assert len(set(np.concatenate(first).tolist())) == 48
    assert not np.array_equal(np.concatenate(first), np.concatenate(second))


def test_the_learning_rate_warms_up_and_ends_at_zero():
    settings = SETTINGS.model_copy(update={"epochs": 10, "warmup_epochs": 2})
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    rates = []
    for epoch in (0.0, 1.0, 2.0, 5.0, 9.999):
        set_learning_rate(optimizer, settings, epoch)
        rates.append(optimizer.param_groups[0]["lr"] / settings.learning_rate)
    assert rates[0] < rates[1] < rates[2]
    assert rates[3] == pytest.approx(0.5)
    assert rates[4] == pytest.approx(0.0, abs=1e-6)


def test_pretraining_brings_two_views_of_a_case_together_without_collapse():
    trained = run(SETTINGS.model_copy(update={"epochs": 12}))
    assert trained.epochs[-1].loss < -0.5 < trained.epochs[0].loss
    assert not any(epoch.collapsed for epoch in trained.epochs)
    assert trained.clusters is None
    assert not trained.encoder.training
    assert embed(trained.encoder, crops()).shape == (64, SHAPE.dimension)


def test_a_run_is_repeated_bit_for_bit_and_another_seed_is_another_run():
    first, second, other = run(), run(), run(seed=4)
    assert first.epochs == second.epochs
    assert same_weights(first.encoder, second.encoder)
    assert first.epochs != other.epochs


def test_the_untrained_network_has_the_weights_that_training_starts_from():
    start, reference = new_encoder(2, SHAPE, 3), untrained_encoder(crops(), SHAPE, SETTINGS, 3)
    assert same_weights(start, reference)


def test_fewer_crops_than_a_batch_are_refused():
    with pytest.raises(ConfigError, match="10 crops"):
        run(given=crops(10))


@pytest.mark.parametrize(
    "epoch",
    [
        Epoch(0, loss=-1.0, spread=0.05, effective_rank=8.0),
        Epoch(0, loss=-1.0, spread=0.9, effective_rank=1.1),
    ],
    ids=["one direction", "one line"],
)
def test_closed_up_embeddings_ring_the_alarm(epoch):
    assert epoch.collapsed
    assert not Epoch(0, loss=-0.8, spread=0.9, effective_rank=12.0).collapsed


def test_bf16_starts_as_full_precision_does():
    exact = run(SETTINGS.model_copy(update={"epochs": 3})).epochs
    rounded = run(SETTINGS.model_copy(update={"epochs": 3, "amp": "bf16"})).epochs
    assert rounded[0].loss == pytest.approx(exact[0].loss, abs=0.02)  # later steps amplify what was rounded
    assert rounded[0].loss != exact[0].loss


def test_channels_last_is_the_same_network():
    plain, given = new_encoder(2, SHAPE, 3), torch.from_numpy(crops())
    last = new_encoder(2, SHAPE, 3).to(memory_format=torch.channels_last_3d)
    outputs = []
    for encoder, views in ((plain, given), (last, given.to(memory_format=torch.channels_last_3d))):
        f = encoder(views)
        f.square().mean().backward()
        outputs.append(f.detach())
    assert (outputs[0] - outputs[1]).abs().max() < 1e-3 * outputs[0].std()
    for one, other in zip(plain.parameters(), last.parameters(), strict=True):
        assert (one.grad - other.grad).abs().max() < 0.02 * one.grad.abs().max()
