import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training.encoder import Encoder
from training.pretexts import (
    BOXES,
    KNOTS,
    GenesisNet,
    GenesisParams,
    RubikNet,
    RubikParams,
    apply_genesis,
    apply_rubik,
    bezier_map,
    distant_orders,
    draw_genesis,
    draw_rubik,
    genesis_loss,
    join_cells,
    rubik_loss,
    split_cells,
    undo_rubik,
)


def crops(count=6, channels=2, edge=8, seed=0):
    """Intensities in [-1, 1], and a mask of a box as the last channel."""
    drawn = 2 * torch.rand(count, channels, edge, edge, edge, generator=torch.Generator().manual_seed(seed)) - 1
    drawn[:, -1] = 0
    drawn[:, -1, 2:5, 3:6, 1:4] = 1
    return drawn


def genesis(count=6, **changed):
    """Parameters that leave the crops as they are, but for what is changed."""
    still = {
        "maps": torch.linspace(-1, 1, KNOTS).repeat(count, 1),
        "shuffled": torch.zeros(count),
        "boxes": torch.tensor([0.25, 0.75]).repeat(count, BOXES, 3, 1),
        "painted": torch.zeros(count, dtype=torch.bool),
        "outwards": torch.zeros(count, dtype=torch.bool),
        "mixes": torch.stack([torch.arange(8), torch.arange(8).flip(0)]).repeat_interleave(
            torch.tensor([1, 64]), dim=0
        ),
        "block": 2,
        "seed": 7,
        "rows": (0, count, count),
    }
    return GenesisParams(**(still | changed))


def test_orders_are_permutations_as_far_apart_as_can_be():
    orders = distant_orders(32)
    assert all(sorted(order) == list(range(8)) for order in orders.tolist())
    distances = [(a != b).sum() for a, b in itertools.combinations(orders, 2)]
    assert min(distances) >= 7
    # Eight orders can differ in every place (a Latin square); a ninth cannot.
    assert all((a != b).all() for a, b in itertools.combinations(orders[:8], 2))
    assert (distant_orders(8) == orders[:8]).all()


def test_each_order_is_the_furthest_from_those_before_it():
    chosen = distant_orders(4)
    every = np.array(list(itertools.permutations(range(8))))
    for count in range(1, 4):
        reach = np.min([(every != each).sum(axis=1) for each in chosen[:count]], axis=0).max()
        assert min((chosen[count] != each).sum() for each in chosen[:count]) == reach


def test_cells_are_the_corners_of_the_crop():
    crop = crops(edge=8)
    cells = split_cells(crop, gap=2)
    assert cells.shape == (6, 8, 2, 3, 3, 3)
    assert torch.equal(cells[:, 0], crop[:, :, :3, :3, :3])
    assert torch.equal(cells[:, 1], crop[:, :, :3, :3, 5:])
    assert torch.equal(cells[:, 6], crop[:, :, 5:, 5:, :3])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_undoing_the_cube_restores_the_crop(seed):
    crop, params = crops(seed=seed), draw_rubik(np.random.default_rng(seed), 6)
    played = apply_rubik(split_cells(crop, gap=0), params)
    assert torch.equal(join_cells(undo_rubik(played, params)), crop)


def test_played_cells_equal_those_of_a_slow_version():
    crop, params = crops(), draw_rubik(np.random.default_rng(3), 6)
    cells = split_cells(crop)
    played = apply_rubik(cells, params)
    for case, place in itertools.product(range(6), range(8)):
        cell = cells[case, distant_orders()[params.orders[case], place]].numpy()
        # Two quarter turns in the plane across the axis that is turned about.
        for axis, plane in ((0, (2, 3)), (1, (1, 3))):
            if params.turns[case, place, axis]:
                cell = np.rot90(np.rot90(cell, axes=plane), axes=plane)
        assert (played[case, place].numpy() == cell).all()


def test_cube_is_drawn_evenly_and_from_the_seed():
    params = draw_rubik(np.random.default_rng(0), 3200)
    counts = np.bincount(params.orders.numpy(), minlength=32)
    assert ((counts - 100) ** 2 / 100).sum() < 62  # 99.9 % of chi-square with 31 degrees of freedom
    assert params.turns.float().mean(dim=0).flatten().tolist() == pytest.approx([0.5] * 16, abs=0.04)
    again = draw_rubik(np.random.default_rng(0), 3200)
    assert torch.equal(params.orders, again.orders)
    assert torch.equal(params.turns, again.turns)


def test_part_of_a_cube_is_played_as_in_the_whole():
    crop, params = crops(), draw_rubik(np.random.default_rng(0), 6)
    cells = split_cells(crop)
    assert torch.equal(apply_rubik(cells[2:5], params.part(2, 5)), apply_rubik(cells, params)[2:5])


def test_cube_loss_equals_the_slow_version():
    params = draw_rubik(np.random.default_rng(0), 4, orders=5)
    logits = torch.randn(4, 5, dtype=torch.float64), torch.randn(4, 16, dtype=torch.float64)
    for case, loss in enumerate(rubik_loss(*logits, params)):
        order, turns = logits[0][case].tolist(), logits[1][case].tolist()
        expected = math.log(sum(map(math.exp, order))) - order[params.orders[case]]
        for logit, turned in zip(turns, params.turns[case].flatten().tolist(), strict=True):
            chance = 1 / (1 + math.exp(-logit))
            expected -= math.log(chance if turned else 1 - chance) / 16
        assert float(loss) == pytest.approx(expected / 2)


def test_cube_loss_of_even_guesses_is_chance_and_of_sure_ones_zero():
    params = RubikParams(torch.tensor([0, 3]), torch.tensor([[[True, False]] * 8] * 2))
    even = rubik_loss(torch.zeros(2, 32), torch.zeros(2, 16), params)
    assert even.tolist() == pytest.approx([(math.log(32) + math.log(2)) / 2] * 2)
    sure = torch.full((2, 32), -50.0)
    sure[[0, 1], [0, 3]] = 50.0
    assert rubik_loss(sure, torch.tensor([50.0, -50.0]).repeat(2, 8), params).max() < 1e-12


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_intensity_maps_are_monotone_between_the_corners(seed):
    rng = np.random.default_rng(seed)
    falling = np.array([False, True, False])
    rising = bezier_map(rng.random((3, 2, 2)), falling) * np.where(falling, -1, 1)[:, None]
    assert (np.diff(rising, axis=1) >= 0).all()
    assert rising[:, 0] == pytest.approx(-1.0)
    assert rising[:, -1] == pytest.approx(1.0)


def test_intensity_maps_lie_on_the_bezier_curve():
    inner = np.array([[[0.1, 0.7], [0.4, 0.9]]])
    table = bezier_map(inner, np.array([False]))[0]
    points = np.array([[0, 0], *inner[0], [1, 1]])
    for t in (0.1, 0.35, 0.8):
        x, y = sum(math.comb(3, n) * t**n * (1 - t) ** (3 - n) * points[n] for n in range(4))
        assert np.interp(x, np.linspace(0, 1, KNOTS), (table + 1) / 2) == pytest.approx(y, abs=3e-3)
    straight = bezier_map(np.array([[[1 / 3, 1 / 3], [2 / 3, 2 / 3]]] * 2), np.array([False, True]))
    assert straight[0] == pytest.approx(np.linspace(-1, 1, KNOTS), abs=1e-12)
    assert straight[1] == pytest.approx(np.linspace(1, -1, KNOTS), abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_deformed_crops_stay_in_range_and_keep_the_mask(seed):
    crop, params = crops(channels=3, seed=seed), draw_genesis(np.random.default_rng(seed), 6)
    before = crop.clone()
    deformed = apply_genesis(crop, params, image_channels=2)
    assert deformed.shape == crop.shape
    assert deformed[:, :2].min() >= -1.0
    assert deformed[:, :2].max() <= 1.0
    assert torch.equal(deformed[:, 2], crop[:, 2])
    assert torch.equal(crop, before)
    assert torch.equal(deformed, apply_genesis(crop, params, image_channels=2))


def test_neutral_deformation_gives_the_crops_back():
    crop = crops()
    assert torch.allclose(apply_genesis(crop, genesis(), 1), crop, atol=1e-6)


def test_bent_intensities_equal_the_table():
    maps = torch.from_numpy(bezier_map(np.random.default_rng(0).random((6, 2, 2)), np.arange(6) % 2 == 0)).float()
    crop = crops()
    bent = apply_genesis(crop, genesis(maps=maps), 1)
    for case in range(6):
        expected = np.interp(crop[case, 0], np.linspace(-1, 1, KNOTS), maps[case])
        assert bent[case, 0].numpy() == pytest.approx(expected, abs=1e-5)


def test_shuffling_moves_voxels_only_within_their_block_and_alike_in_all_channels():
    crop = crops(channels=3, edge=9)
    crop[:, 1] = -crop[:, 0]
    params = genesis(shuffled=torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0, 0.5]))
    shuffled = apply_genesis(crop, params, 2)
    assert torch.allclose(shuffled[3:5], crop[3:5], atol=1e-6)
    assert torch.allclose(shuffled[:, 1], -shuffled[:, 0], atol=1e-6)
    assert torch.allclose(shuffled[:, :, 8], crop[:, :, 8], atol=1e-6)  # what fills no block of two voxels
    moved = 0
    for i, j, k in itertools.product(range(0, 8, 2), repeat=3):
        block = (0, slice(i, i + 2), slice(j, j + 2), slice(k, k + 2))
        assert torch.allclose(shuffled[0][block].flatten().flip(0), crop[0][block].flatten(), atol=1e-6)
        moved += int(not torch.allclose(shuffled[5][block], crop[5][block], atol=1e-6))
    assert 12 <= moved <= 52


@pytest.mark.parametrize("outwards", [False, True])
def test_painting_is_noise_inside_or_outside_the_boxes(outwards):
    crop, chosen = crops(), torch.tensor([True, True, False, True, False, False])
    params = genesis(painted=chosen, outwards=torch.full((6,), outwards))
    painted = apply_genesis(crop, params, 1)
    inside = torch.zeros(8, 8, 8, dtype=torch.bool)
    inside[2:6, 2:6, 2:6] = True
    over = ~inside if outwards else inside
    same = torch.isclose(painted[:, 0], crop[:, 0], atol=1e-6)
    assert same[~chosen].all()
    assert same[chosen][:, ~over].all()
    assert not same[chosen][:, over].any()
    noise = painted[chosen][:, 0][:, over]
    assert float(noise.mean()) == pytest.approx(0.0, abs=0.15)
    assert float(noise.var()) == pytest.approx(1 / 3, abs=0.1)


def test_part_of_a_batch_is_deformed_as_in_the_whole():
    crop, params = crops(), draw_genesis(np.random.default_rng(5), 6)
    whole = apply_genesis(crop, params, 1)
    assert torch.equal(apply_genesis(crop[1:4], params.part(1, 4), 1), whole[1:4])
    assert torch.equal(apply_genesis(crop[2:4], params.part(1, 5).part(1, 3), 1), whole[2:4])


def test_deformations_are_drawn_as_often_as_said():
    params = draw_genesis(np.random.default_rng(0), 4000)
    bent = (params.maps - torch.linspace(-1, 1, KNOTS)).abs().amax(dim=1) > 1e-3
    assert float(bent.float().mean()) == pytest.approx(0.9, abs=0.02)
    assert float((params.maps[bent, 0] > 0).float().mean()) == pytest.approx(0.5, abs=0.03)
    assert float((params.shuffled > 0).float().mean()) == pytest.approx(0.5, abs=0.03)
    assert float(params.painted.float().mean()) == pytest.approx(0.9, abs=0.02)
    assert float(params.outwards.float().mean()) == pytest.approx(0.8, abs=0.02)
    edges = params.boxes[..., 1] - params.boxes[..., 0]
    assert params.boxes.min() >= 0
    assert params.boxes.max() <= 1
    assert (edges[params.outwards] > 3 / 7 - 1e-6).all()
    assert (edges[~params.outwards] < 1 / 3 + 1e-6).all()
    assert all(sorted(mix) == list(range(params.block**3)) for mix in params.mixes.tolist())
    assert params.mixes[0].tolist() == list(range(params.block**3))


def test_restoration_loss_is_the_mean_squared_error_of_the_images_alone():
    crop, restored = crops(count=2), torch.zeros(2, 1, 8, 8, 8)
    expected = [float(np.mean(crop[case, 0].numpy() ** 2)) for case in range(2)]
    assert genesis_loss(restored, crop).tolist() == pytest.approx(expected)
    assert genesis_loss(crop[:, :1], crop).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("edge", [16, 24])
def test_networks_fit_every_edge_that_the_encoder_takes(edge):
    torch.manual_seed(0)
    encoder, batch = Encoder(2, [4, 6, 8], 5), crops(count=3, edge=edge)
    restored, embeddings = GenesisNet(encoder, images=1)(batch)
    assert restored.shape == (3, 1, edge, edge, edge)
    assert embeddings.shape == (3, 5)
    orders, turns, means = RubikNet(encoder, width=8, orders=7)(split_cells(batch))
    assert (orders.shape, turns.shape, means.shape) == ((3, 7), (3, 16), (3, 5))


def learn(model, step, steps):
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    losses = []
    for _ in range(steps):
        loss = step().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def test_every_parameter_learns_and_the_loss_falls():
    torch.manual_seed(0)
    batch, rng = crops(count=8, edge=8), np.random.default_rng(0)
    played, deformed = draw_rubik(rng, 8, orders=4), apply_genesis(batch, draw_genesis(rng, 8), 1)
    cells = apply_rubik(split_cells(batch), played, orders=4)
    rubik, restorer = RubikNet(Encoder(2, [4, 8], 6), 16, orders=4), GenesisNet(Encoder(2, [4, 8], 6), 1)
    for model, step in (
        (rubik, lambda: rubik_loss(*rubik(cells)[:2], played)),
        (restorer, lambda: genesis_loss(restorer(deformed)[0], batch)),
    ):
        losses = learn(model, step, 40)
        assert losses[-1] < 0.9 * losses[0]
        silent = [name for name, value in model.named_parameters() if value.grad is None or not value.grad.any()]
        assert silent == []
