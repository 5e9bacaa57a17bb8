import numpy as np
import pytest
import torch
from torch.nn.functional import affine_grid, avg_pool3d, grid_sample, pad

from training.resampling import resample
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


def test_the_compiled_map_is_that_of_grid_sample():
    given = torch.rand(5, 2, 8, 10, 12, generator=torch.Generator().manual_seed(1))
    maps = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(2)) * 0.6
    reversed_axes = torch.cat([maps[:, :, :3].flip(1, 2), maps[:, :, 3:].flip(1)], dim=2)
    grid = affine_grid(reversed_axes, list(given.shape), align_corners=False)
    expected = grid_sample(given, grid, mode="bilinear", padding_mode="border", align_corners=False)
    assert torch.allclose(resample(given, maps), expected, atol=1e-4)


def test_smoothing_in_full_is_the_mean_of_27_voxels():
    given = crops()
    smoothed = apply_view(given, changed(neutral_view_params(3), smoothings=torch.ones(3)), 1)[:, :1]
    assert torch.allclose(smoothed, avg_pool3d(pad(given[:, :1], (1,) * 6, mode="replicate"), 3, stride=1), atol=1e-5)


def test_noise_has_the_standard_deviation_that_was_drawn():
    given = torch.zeros(2, 1, 24, 24, 24)
    params = changed(neutral_view_params(2), noises=torch.tensor([0.05, 0.1]))
    assert apply_view(given, params, 1).std(dim=(1, 2, 3, 4)).tolist() == pytest.approx([0.05, 0.1], rel=0.03)


def test_crops_viewed_apart_are_the_same_as_together():
    given, params = crops(count=6), draw_view_params(np.random.default_rng(5), 6, STRONG)
    together = apply_view(given, params, 1)
    apart = [apply_view(given[first:last], params.part(first, last), 1) for first, last in ((0, 1), (1, 4), (4, 6))]
    assert torch.equal(torch.cat(apart), together)
    assert torch.equal(apply_view(given[2:3], params.part(1, 4).part(1, 2), 1), together[2:3])


def test_without_strength_only_flips_and_rotations_are_left():
    strengths = np.array([0.0, 1.0])
    weak, full = (draw_view_params(np.random.default_rng(5), 2, STRONG, each) for each in (strengths, None))
    for name in ("shifts", "brightnesses", "noises", "smoothings"):
        values = getattr(weak, name)
        assert bool((values[0] == 0).all()), name
        assert torch.equal(values[1], getattr(full, name)[1]), name
    assert float(weak.scales[0]) == float(weak.contrasts[0]) == 1.0
    assert torch.equal(weak.cutouts[0, :, 0], weak.cutouts[0, :, 1])
    assert torch.equal(weak.rotations, full.rotations)
    assert torch.equal(weak.flips, full.flips)


def test_views_leave_the_crops_as_they_were():
    given = crops()
    before = given.clone()
    apply_view(given, draw_view_params(np.random.default_rng(5), 3, STRONG), 1)
    assert torch.equal(given, before)
