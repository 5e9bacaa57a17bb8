import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from training.encoder import Encoder
from training.method import SimSiam, effective_rank, negative_cosine, simsiam_loss, spread, weighted_mean


def vectors(seed, count=6, width=5):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def slow_loss(z1, p1, z2, p2):
    """The loss of arXiv 2011.10566, Eq. 1 and 2, in scalars."""

    def cosine(a, b):
        dot = sum(x * y for x, y in zip(a, b, strict=True))
        return dot / math.sqrt(sum(x * x for x in a)) / math.sqrt(sum(y * y for y in b))

    rows = zip(z1.tolist(), p1.tolist(), z2.tolist(), p2.tolist(), strict=True)
    return [-cosine(b, c) / 2 - cosine(d, a) / 2 for a, b, c, d in rows]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_loss_equals_the_slow_version(seed):
    z1, p1, z2, p2 = (vectors(4 * seed + part) for part in range(4))
    assert simsiam_loss((z1, p1), (z2, p2)).tolist() == pytest.approx(slow_loss(z1, p1, z2, p2), abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_loss_is_symmetric_and_blind_to_length(seed):
    z1, p1, z2, p2 = (vectors(4 * seed + part) for part in range(4))
    loss = simsiam_loss((z1, p1), (z2, p2))
    assert torch.allclose(loss, simsiam_loss((z2, p2), (z1, p1)))
    assert torch.allclose(loss, simsiam_loss((3 * z1, 0.1 * p1), (7 * z2, 2 * p2)))
    assert bool((loss.abs() <= 1 + 1e-12).all())


def test_identical_views_give_minus_one_and_orthogonal_ones_zero():
    same = vectors(0)
    assert simsiam_loss((same, same), (same, same)).tolist() == pytest.approx([-1.0] * 6)
    axes = torch.eye(4, dtype=torch.float64)
    assert negative_cosine(axes, axes.roll(1, dims=1)).tolist() == [0.0] * 4


def test_no_gradient_flows_into_the_projections():
    z1, p1, z2, p2 = (vectors(part).requires_grad_() for part in range(4))
    simsiam_loss((z1, p1), (z2, p2)).sum().backward()
    assert z1.grad is None
    assert z2.grad is None
    assert float(p1.grad.abs().sum()) > 0
    assert float(p2.grad.abs().sum()) > 0


def test_weights_of_one_batch_never_change_the_size_of_a_step():
    losses, weights = vectors(1)[:, 0], vectors(2)[:, 0].exp()
    assert torch.isclose(weighted_mean(losses, weights), weighted_mean(losses, 10 * weights))
    assert torch.isclose(weighted_mean(losses, torch.full_like(weights, 3.0)), losses.mean())
    assert torch.isclose(weighted_mean(losses), losses.mean())
    only_first = torch.tensor([1.0, 0, 0, 0, 0, 0], dtype=torch.float64)
    assert torch.isclose(weighted_mean(losses, only_first), losses[0])


def test_spread_is_one_for_even_directions_and_zero_after_collapse():
    assert spread(vectors(3, count=20_000, width=32)) == pytest.approx(1.0, abs=0.02)
    assert spread(torch.ones(50, 32)) == pytest.approx(0.0, abs=1e-6)


def test_effective_rank_counts_the_directions_in_use():
    basis = torch.cat([torch.eye(4), -torch.eye(4)])
    assert effective_rank(basis) == pytest.approx(4.0)
    assert effective_rank(vectors(5, count=50)[:, :1] * torch.ones(1, 8)) == pytest.approx(1.0, abs=1e-6)
    assert effective_rank(vectors(5, count=5000, width=8)) == pytest.approx(8.0, abs=0.1)


@pytest.mark.parametrize(("channels", "edge"), [(1, 32), (2, 32), (2, 48)])
def test_encoder_gives_one_embedding_per_crop(channels, edge):
    encoder = Encoder(channels, widths=[4, 8, 16], dimension=10).eval()
    crops = torch.randn(3, channels, edge, edge, edge)
    embeddings = encoder(crops)
    assert embeddings.shape == (3, 10)
    assert torch.allclose(encoder(crops[1:2]), embeddings[1:2], atol=1e-5)  # no case sees another


def test_projections_and_predictions_have_one_width_and_the_predictor_a_bottleneck():
    model = SimSiam(nn.Flatten(), dimension=8, width=16)
    z, p = model(torch.randn(5, 8))
    assert z.shape == p.shape == (5, 16)
    assert model.predictor[0].weight.shape == (4, 16)
    assert model.projector[-1].weight is None  # the last normalisation learns nothing
