"""Image processing of IBSI against what follows from its definitions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from service.errors import EmptyRoi, RadiomicsRefused
from service.features.ibsi.configuration import Configuration, FixedNumber, FixedSize, Interpolation
from service.features.ibsi.intensities import assign_levels, resegment
from service.features.ibsi.interpolation import aligned_centres, cubic_weights, linear_weights, resample

SPACING = (3.0, 1.0, 1.0)


def ramp(shape: tuple[int, int, int]) -> np.ndarray:
    k, j, i = np.indices(shape)
    return 7.0 + 3 * k - 2 * j + 5 * i


def block(shape: tuple[int, int, int], margin: int) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[margin:-margin, margin:-margin, margin:-margin] = True
    return mask


@given(st.integers(1, 400), st.floats(0.2, 6), st.floats(0.2, 6))
def test_old_and_new_grid_have_the_same_middle_and_the_new_one_covers_the_old(size, old, new):
    centres = aligned_centres(size, old, new)
    assert np.mean(centres) == pytest.approx((size - 1) / 2, abs=1e-6)
    assert len(centres) * new >= size * old * (1 - 1e-6)
    assert (len(centres) - 1) * new < size * old * (1 + 1e-6)


def test_centres_of_a_grid_by_hand():
    assert aligned_centres(4, 3.0, 2.0) == pytest.approx([-1 / 6, 0.5, 7 / 6, 11 / 6, 2.5, 19 / 6])


def test_a_linear_function_is_reproduced_by_linear_interpolation():
    voxels, mask = ramp((9, 12, 11)), block((9, 12, 11), 3)
    volume = resample(voxels, mask, SPACING, Interpolation((2.0, 0.7, 1.3)))
    steps = [np.diff(volume.voxels, axis=axis) for axis in range(3)]
    for step, slope in zip(steps, (3 * 2 / 3, -2 * 0.7, 5 * 1.3), strict=True):
        assert step == pytest.approx(np.full(step.shape, slope))


@pytest.mark.parametrize("method", ["linear", "cubic"])
def test_a_constant_image_stays_constant(method):
    volume = resample(np.full((8, 9, 10), 42), block((8, 9, 10), 2), SPACING, Interpolation((2.0, 2.0, 2.0), method))
    assert volume.voxels == pytest.approx(np.full(volume.voxels.shape, 42.0))


@pytest.mark.parametrize("method", ["linear", "cubic"])
def test_the_same_spacing_changes_nothing(method):
    rng = np.random.default_rng(1)
    voxels, mask = rng.normal(size=(7, 8, 9)), np.zeros((7, 8, 9), dtype=bool)
    mask[2:5, 0:4, 3:9] = True
    volume = resample(voxels, mask, SPACING, Interpolation(SPACING, method))
    assert volume.voxels == pytest.approx(voxels[2:5, 0:4, 3:9])
    assert volume.inside.all()


def test_the_slice_axis_can_be_left_as_it_is():
    volume = resample(ramp((6, 8, 8)), block((6, 8, 8), 1), SPACING, Interpolation((None, 2.0, 2.0)))
    assert volume.spacing == (3.0, 2.0, 2.0)
    assert volume.voxels.shape[0] == 4


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 40), st.integers(0, 2**32 - 1))
def test_the_cubic_spline_is_the_mirrored_interpolating_one(size, seed):
    rng = np.random.default_rng(seed)
    values, places = rng.normal(size=size), rng.uniform(0, size - 1, 20)
    expected = ndimage.map_coordinates(values, places[None], order=3, mode="mirror")
    assert cubic_weights(places, size) @ values == pytest.approx(expected, abs=1e-10)


def test_weights_add_up_to_one():
    places = np.linspace(0, 9, 40)
    for weights in (linear_weights(places, 10), cubic_weights(places, 10)):
        assert weights.sum(axis=1) == pytest.approx(np.ones(40))


def test_what_is_far_from_the_region_does_not_matter():
    rng = np.random.default_rng(2)
    near, mask = rng.normal(size=(5, 130, 5)), np.zeros((5, 130, 5), dtype=bool)
    mask[1:4, 60:70, 1:4] = True
    far = near.copy()
    far[:, :25] += 1000
    first, second = (resample(v, mask, SPACING, Interpolation((2.0, 0.6, 0.9), "cubic")) for v in (near, far))
    assert np.array_equal(first.voxels, second.voxels)


def test_a_voxel_half_covered_by_the_mask_is_inside():
    mask = np.zeros((1, 1, 6), dtype=bool)
    mask[..., 2:4] = True
    volume = resample(np.zeros((1, 1, 6)), mask, (1.0, 1.0, 1.0), Interpolation((1.0, 1.0, 0.5)))
    # Centres lie at .25 and .75 between voxels: covered by .75 on either side of the region's ends.
    assert volume.inside.sum() == 4
    volume = resample(
        np.zeros((1, 1, 7)), np.pad(mask, ((0, 0), (0, 0), (0, 1))), (1.0, 1.0, 1.0), Interpolation((1.0, 1.0, 2.0))
    )
    assert volume.inside.sum() == 1


def test_a_voxel_covered_by_one_half_but_for_rounding_is_inside():
    """A new centre midway between two old ones: the sum of weights falls short of one half by 1e-15 at times."""
    for size in range(4, 40, 2):
        mask = np.zeros((size, 1, 1), dtype=bool)
        mask[1:] = True
        volume = resample(np.zeros(mask.shape), mask, (1.2, 1.0, 1.0), Interpolation((0.8, 1.0, 1.0)))
        assert volume.inside.sum() == np.count_nonzero(aligned_centres(size, 1.2, 0.8) > 0.5 - 1e-6)


def test_a_spline_around_the_region_is_the_spline_of_the_whole_image():
    rng = np.random.default_rng(6)
    voxels, mask = rng.normal(size=(1, 1, 200)), np.zeros((1, 1, 200), dtype=bool)
    mask[..., 90:110] = True
    volume = resample(voxels, mask, (1.0, 1.0, 1.0), Interpolation((1.0, 1.0, 0.7), "cubic"))
    centres = aligned_centres(200, 1.0, 0.7)
    places = centres[(centres > 89) & (centres < 110)]
    expected = ndimage.map_coordinates(voxels[0, 0], places[None], order=3, mode="mirror")
    assert volume.voxels[0, 0] == pytest.approx(expected, abs=1e-10)


def test_hounsfield_units_are_rounded_to_the_nearest_whole_number():
    rng = np.random.default_rng(3)
    voxels, mask = rng.integers(-1000, 400, (8, 8, 8)), block((8, 8, 8), 2)
    exact, rounded = (
        resample(voxels, mask, SPACING, Interpolation((2.0, 0.8, 0.8), "cubic", whole)).voxels
        for whole in (False, True)
    )
    assert np.array_equal(rounded, np.rint(rounded))
    assert np.max(np.abs(rounded - exact)) <= 0.5


def test_a_spacing_too_fine_for_the_memory_is_refused():
    with pytest.raises(RadiomicsRefused):
        resample(ramp((9, 9, 9)), block((9, 9, 9), 2), SPACING, Interpolation((0.005, 0.005, 0.005)))


def test_both_ends_of_the_interval_belong_to_it():
    voxels = np.array([[[-501.0, -500.0, 0.0, 400.0, 401.0]]])
    inside = resegment(voxels, np.ones(voxels.shape, dtype=bool), Configuration("c", interval=(-500, 400)))
    assert inside.tolist() == [[[False, True, True, True, False]]]


def test_outliers_are_found_after_the_interval_is_applied():
    voxels = np.concatenate([np.tile([0.0, 2.0], 50), [30.0, 1e6]]).reshape(1, 1, -1)
    everything = np.ones(voxels.shape, dtype=bool)
    both = resegment(voxels, everything, Configuration("c", interval=(0, 1000), outliers=3))
    assert both.sum() == 100
    outliers_alone = resegment(voxels, everything, Configuration("c", outliers=3))
    assert outliers_alone.sum() == 101


def test_a_region_without_intensities_in_the_interval_is_refused():
    with pytest.raises(EmptyRoi):
        resegment(np.zeros((2, 2, 2)), np.ones((2, 2, 2), dtype=bool), Configuration("c", interval=(1, 2)))


def test_levels_of_fixed_size_start_at_the_interval():
    way = Configuration("c", interval=(-1000, 400), discretisation=FixedSize(25))
    levels = assign_levels(np.array([-976.0, -976.0, -975.0, -950.0, 400.0]), way)
    assert levels.numbers.tolist() == [1, 2, 3, 57]
    assert levels.ranks.tolist() == [1, 1, 2, 3, 4]
    assert levels.counts.tolist() == [2, 1, 1, 1]


def test_levels_of_fixed_size_start_at_the_minimum_without_an_interval():
    levels = assign_levels(np.array([10.0, 12.0, 14.9, 15.0]), Configuration("c", discretisation=FixedSize(5)))
    assert levels.ranks.tolist() == [1, 1, 1, 2]
    assert levels.numbers.tolist() == [1, 2]


def test_the_maximum_belongs_to_the_last_of_a_fixed_number_of_levels():
    levels = assign_levels(np.array([0.0, 0.9, 1.0, 3.99, 4.0]), Configuration("c", discretisation=FixedNumber(4)))
    assert levels.numbers[levels.ranks - 1].tolist() == [1, 1, 2, 4, 4]


def test_a_flat_region_has_one_level():
    levels = assign_levels(np.full(5, 3.5), Configuration("c", discretisation=FixedNumber(32)))
    assert levels.numbers.tolist() == [1]


@pytest.mark.parametrize("value", [0.0, 1.5, -1.0])
def test_intensities_that_are_no_grey_levels_are_refused(value):
    with pytest.raises(RadiomicsRefused):
        assign_levels(np.array([1.0, value]), Configuration("c"))
