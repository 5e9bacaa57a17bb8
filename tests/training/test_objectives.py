import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training.method import weighted_mean
from training.objectives import infonce_loss, vicreg_loss


def vectors(seed, count=7, width=4):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def whitened(count=16, width=4, std=1.0):
    """Vectors with uncorrelated dimensions of the given standard deviation."""
    centred = vectors(0, count, width)
    basis, _ = torch.linalg.qr(centred - centred.mean(dim=0))
    return basis * std * math.sqrt(count - 1)


def slow_vicreg(z1, z2):
    """arXiv 2105.04906, Eq. 1 to 6, in scalars; the invariance term averaged over dimensions."""
    count, width = len(z1), len(z1[0])

    def covariance(z, a, b):
        mean_a, mean_b = (sum(row[j] for row in z) / count for j in (a, b))
        return sum((row[a] - mean_a) * (row[b] - mean_b) for row in z) / (count - 1)

    def regularise(z):
        lack = sum(max(0.0, 1.0 - math.sqrt(covariance(z, j, j) + 1e-4)) for j in range(width)) / width
        off = sum(covariance(z, a, b) ** 2 for a in range(width) for b in range(width) if a != b) / width
        return 25 * lack + off

    both = regularise(z1) + regularise(z2)
    return [
        25 * sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) / width + both for a, b in zip(z1, z2, strict=True)
    ]


def slow_infonce(z1, z2, temperature):
    """arXiv 2002.05709, Eq. 1, in scalars."""
    views, count = z1 + z2, len(z1)

    def similarity(a, b):
        dot = sum(x * y for x, y in zip(a, b, strict=True))
        return math.exp(dot / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b)) / temperature)

    def loss(i, j):
        return -math.log(
            similarity(views[i], views[j]) / sum(similarity(views[i], views[k]) for k in range(2 * count) if k != i)
        )

    return [(loss(i, i + count) + loss(i + count, i)) / 2 for i in range(count)]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_vicreg_equals_the_slow_version(seed):
    z1, z2 = vectors(2 * seed), vectors(2 * seed + 1)
    assert vicreg_loss(z1, z2).tolist() == pytest.approx(slow_vicreg(z1.tolist(), z2.tolist()))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.05, 2.0))
def test_infonce_equals_the_slow_version(seed, temperature):
    z1, z2 = vectors(2 * seed), vectors(2 * seed + 1)
    assert infonce_loss(z1, z2, temperature).tolist() == pytest.approx(
        slow_infonce(z1.tolist(), z2.tolist(), temperature)
    )


def test_vicreg_of_identical_whitened_views_is_zero():
    z = whitened()
    assert vicreg_loss(z, z).abs().max() < 1e-12


def test_vicreg_of_collapsed_views_is_the_missing_variance():
    z = torch.ones(8, 4, dtype=torch.float64)
    assert vicreg_loss(z, z).tolist() == pytest.approx([2 * 25 * (1 - math.sqrt(1e-4))] * 8)


def test_vicreg_counts_only_the_distance_case_by_case():
    z = whitened(std=2.0)
    moved = z.clone()
    moved[3] += 0.1
    moved[5] -= 0.1  # the mean stays
    away = vicreg_loss(z, moved) - vicreg_loss(z, moved)[0]
    expected = torch.zeros(16, dtype=torch.float64)
    expected[[3, 5]] = 25 * 0.1**2
    assert torch.allclose(away, expected)
    assert torch.allclose(vicreg_loss(z, moved + 0), vicreg_loss(moved, z))


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_infonce_of_orthogonal_pairs_has_its_closed_form(temperature):
    z = 3.0 * torch.eye(5, 8, dtype=torch.float64)
    expected = -math.log(math.exp(1 / temperature) / (math.exp(1 / temperature) + 2 * 5 - 2))
    assert infonce_loss(z, 0.5 * z, temperature).tolist() == pytest.approx([expected] * 5)


def test_infonce_of_collapsed_views_is_chance():
    z = torch.ones(6, 3, dtype=torch.float64)
    assert infonce_loss(z, z).tolist() == pytest.approx([math.log(11)] * 6)


@pytest.mark.parametrize("loss", [vicreg_loss, infonce_loss])
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_losses_follow_the_order_of_cases_and_ignore_that_of_views_and_axes(loss, seed):
    z1, z2 = vectors(2 * seed), vectors(2 * seed + 1)
    order, axes = torch.tensor([3, 0, 6, 1, 5, 2, 4]), torch.tensor([2, 0, 3, 1])
    assert torch.allclose(loss(z2, z1), loss(z1, z2))
    assert torch.allclose(loss(z1[order], z2[order]), loss(z1, z2)[order])
    assert torch.allclose(loss(z1[:, axes], z2[:, axes]), loss(z1, z2))


def test_infonce_is_blind_to_length_and_rotation():
    z1, z2 = vectors(0), vectors(1)
    rotation, _ = torch.linalg.qr(vectors(2, 4, 4))
    assert torch.allclose(infonce_loss(3 * z1 @ rotation, z2 @ rotation), infonce_loss(z1, z2))


@pytest.mark.parametrize("loss", [vicreg_loss, infonce_loss])
def test_gradients_are_right_and_weights_reach_them(loss):
    z1, z2 = (vectors(seed).requires_grad_() for seed in (0, 1))
    assert torch.autograd.gradcheck(loss, (z1, z2))
    weights = torch.tensor([3.0, 1, 1, 1, 1, 0.5, 0.5], dtype=torch.float64)
    (plain,) = torch.autograd.grad(weighted_mean(loss(z1, z2)), z1)
    (weighted,) = torch.autograd.grad(weighted_mean(loss(z1, z2), weights), z1)
    assert not torch.allclose(plain, weighted)
