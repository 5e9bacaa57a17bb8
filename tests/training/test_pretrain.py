from pathlib import Path

import numpy as np
import pytest
import torch

from training.config import read_config
from training.pretrain import Epoch, draw_batches, embed, new_encoder, pretrain, set_learning_rate, untrained_encoder

CONFIG = read_config(Path(__file__).with_name("tiny.toml"))


def crops(count=64):
    """Balls of many sizes and densities, and their masks."""
    rng = np.random.default_rng(0)
    axis = np.arange(16) - 7.5
    distance = np.sqrt(axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None, :] ** 2)
    inside = distance[None] < rng.uniform(2, 7, count)[:, None, None, None]
    image = np.where(inside, rng.uniform(0, 1, count)[:, None, None, None], -0.8)
    return np.stack([image, inside], axis=1).astype(np.float32)


def test_batches_are_distinct_cases_in_a_new_order_every_epoch():
    rng = np.random.default_rng(1)
    first, second = draw_batches(rng, 50, 16), draw_batches(rng, 50, 16)
    assert [len(batch) for batch in first] == [16, 16, 16]
    assert len(set(np.concatenate(first).tolist())) == 48
    assert not np.array_equal(np.concatenate(first), np.concatenate(second))


def test_the_learning_rate_warms_up_and_ends_at_zero():
    settings = CONFIG.pretraining.model_copy(update={"epochs": 10, "warmup_epochs": 2})
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    rates = []
    for epoch in (0.0, 1.0, 2.0, 5.0, 9.999):
        set_learning_rate(optimizer, settings, epoch)
        rates.append(optimizer.param_groups[0]["lr"] / settings.learning_rate)
    assert rates[0] < rates[1] < rates[2]
    assert rates[3] == pytest.approx(0.5)
    assert rates[4] == pytest.approx(0.0, abs=1e-6)


def test_pretraining_brings_two_views_of_a_case_together_without_collapse():
    settings = CONFIG.pretraining.model_copy(update={"epochs": 12})
    encoder, epochs = pretrain(crops(), CONFIG.model_copy(update={"pretraining": settings}))
    assert epochs[-1].loss < -0.5 < epochs[0].loss
    assert not any(epoch.collapsed for epoch in epochs)
    assert not encoder.training
    assert embed(encoder, crops()).shape == (64, CONFIG.encoder.dimension)


def test_a_run_is_repeated_bit_for_bit():
    (first, losses), (second, again) = pretrain(crops(), CONFIG), pretrain(crops(), CONFIG)
    assert losses == again
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_the_untrained_network_has_the_weights_that_training_starts_from():
    start, reference = new_encoder(CONFIG), untrained_encoder(crops(), CONFIG)
    assert all(torch.equal(a, b) for a, b in zip(start.parameters(), reference.parameters(), strict=True))


def test_closed_up_projections_ring_the_alarm():
    assert Epoch(0, loss=-1.0, spread=0.05, effective_rank=1.1).collapsed
    assert not Epoch(0, loss=-0.8, spread=0.9, effective_rank=12.0).collapsed
