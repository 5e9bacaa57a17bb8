import numpy as np
import pytest
import torch

from training.views import ViewParams, ViewRanges, apply_view, draw_view_params, neutral_view_params

STRONG = ViewRanges(cutout=0.5)


def crops(count=3, edge=12, channels=2):
    drawn = torch.rand(count, channels, edge, edge, edge, generator=torch.Generator().manual_seed(1))
    drawn[:, 0] = 2 * drawn[:, 0] - 1
    return drawn


def changed(params: ViewParams, **parts) -> ViewParams:
    return ViewParams(**{**vars(params), **parts})


def test_neutral_parameters_give_the_crops_back():
    given = crops()
    assert torch.allclose(apply_view(given, neutral_view_params(3), 1), given, atol=1e-5)


def test_the_same_parameters_give_the_same_view():
    given, params = crops(), draw_view_params(np.random.default_rng(5), 3, STRONG)
    assert torch.equal(apply_view(given, params, 1), apply_view(given, params, 1))


def test_the_same_generator_draws_the_same_parameters():
    first, second = (draw_view_params(np.random.default_rng(5), 4, STRONG) for _ in range(2))
    for name, values in vars(first).items():
        assert np.array_equal(values, getattr(second, name)), name


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_flip_reverses_its_own_axis_and_two_give_the_crop_back(axis):
    given, flips = crops(), torch.zeros(3, 3, dtype=torch.bool)
    flips[:, axis] = True
    params = changed(neutral_view_params(3), flips=flips)
    once = apply_view(given, params, 1)
    assert torch.allclose(once, given.flip(2 + axis), atol=1e-5)
    assert torch.allclose(apply_view(once, params, 1), given, atol=1e-5)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_shift_moves_along_its_own_axis(axis):
    given, shifts = crops(edge=12), torch.zeros(3, 3)
    shifts[:, axis] = 1 / 12
    moved = apply_view(given, changed(neutral_view_params(3), shifts=shifts), 1)
    inner = [slice(None)] * 5
    outer = [slice(None)] * 5
    inner[2 + axis], outer[2 + axis] = slice(0, 11), slice(1, 12)
    assert torch.allclose(moved[tuple(inner)], given[tuple(outer)], atol=1e-5)


def test_a_quarter_turn_is_an_exact_rotation():
    turn = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]).expand(3, 3, 3)
    given = crops()
    turned = apply_view(given, changed(neutral_view_params(3), rotations=turn), 1)
    quarter = [given.rot90(k, dims=(2, 3)) for k in (1, 3)]
    assert any(torch.allclose(turned, each, atol=1e-4) for each in quarter)


def test_drawn_rotations_are_rotations():
    matrices = draw_view_params(np.random.default_rng(0), 50, ViewRanges()).rotations
    assert torch.allclose(matrices @ matrices.transpose(1, 2), torch.eye(3).expand(50, 3, 3), atol=1e-5)
    assert torch.allclose(torch.linalg.det(matrices), torch.ones(50), atol=1e-5)


def test_magnification_enlarges_what_is_seen():
    ball = torch.zeros(1, 1, 24, 24, 24)
    ball[:, :, 9:15, 9:15, 9:15] = 1.0
    larger = apply_view(ball, changed(neutral_view_params(1), scales=torch.tensor([1.5])), 1)
    assert float(larger.sum() / ball.sum()) == pytest.approx(1.5**3, rel=0.05)


def test_only_image_channels_change_in_intensity():
    params = changed(
        neutral_view_params(3),
        contrasts=torch.full((3,), 1.3),
        brightnesses=torch.full((3,), 0.1),
        noises=torch.full((3,), 0.2),
        smoothings=torch.full((3,), 0.5),
        cutouts=torch.tensor([[[0.2, 0.6]] * 3] * 3),
    )
    given = crops()
    view = apply_view(given, params, 1)
    assert torch.allclose(view[:, 1:], given[:, 1:], atol=1e-5)
    assert not torch.allclose(view[:, :1], given[:, :1], atol=1e-2)
    assert float(view[:, 0].min()) >= -1.0
    assert float(view[:, 0].max()) <= 1.0


def test_contrast_and_brightness_follow_their_formula():
    given = crops()
    params = changed(neutral_view_params(3), contrasts=torch.full((3,), 0.8), brightnesses=torch.full((3,), -0.05))
    expected = ((given[:, :1] + 1) * 0.8 - 1 - 0.05).clamp(-1, 1)
    assert torch.allclose(apply_view(given, params, 1)[:, :1], expected, atol=1e-5)


def test_the_cut_out_box_is_erased_and_nothing_else():
    given = crops(edge=10)
    params = changed(neutral_view_params(3), cutouts=torch.tensor([[[0.2, 0.5], [0.0, 0.3], [0.5, 1.0]]] * 3))
    view = apply_view(given, params, 1)
    assert bool((view[:, 0, 2:5, 0:3, 5:10] == -1).all())
    untouched = torch.ones(10, 10, 10, dtype=torch.bool)
    untouched[2:5, 0:3, 5:10] = False
    assert torch.allclose(view[:, 0][:, untouched], given[:, 0][:, untouched], atol=1e-5)
