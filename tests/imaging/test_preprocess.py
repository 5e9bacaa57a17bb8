import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import UnfitCase
from service.imaging.case import Image, Mask
from service.imaging.geometry import Geometry
from service.imaging.preprocess import cut_crop
from service.manifest import Preprocessing, Window
from tests.build import build_geometry, build_image, build_mask

WIDE = Window(low=-2000, high=2000)


def setting(voxels=16, extent_mm=8.0, extent="fixed", window=WIDE, **more):
    return Preprocessing(crop_voxels=voxels, extent=extent, extent_mm=extent_mm, windows={"ct": window}, **more)


def to_hu(crop, window=WIDE):
    return (crop + 1) / 2 * (window.high - window.low) + window.low


def linear_reference(voxels, at):
    """Trilinear interpolation at one continuous index, written out."""
    base = np.floor(at).astype(int)
    total = 0.0
    for corner in np.ndindex(2, 2, 2):
        weight = np.prod([f if c else 1 - f for c, f in zip(corner, at - base, strict=True)])
        total += weight * float(voxels[tuple(base + corner)])
    return total


def positions(mask, preprocessing):
    """Continuous index of every crop voxel along each axis."""
    steps = np.arange(preprocessing.crop_voxels) - (preprocessing.crop_voxels - 1) / 2
    step_mm = preprocessing.extent_mm / preprocessing.crop_voxels
    return [
        (first + stop - 1) / 2 + steps * step_mm / edge
        for (first, stop), edge in zip(mask.bounding_box, mask.geometry.spacing_mm, strict=True)
    ]


def test_crop_finer_than_the_image_is_trilinear_interpolation():
    image = build_image(dtype="float32")
    mask = build_mask(image.geometry, 4.0, image.geometry.to_world((11.2, 9.4, 6.8)))
    preprocessing = setting()
    crop = to_hu(cut_crop({"ct": image}, mask, ["ct"], preprocessing))[0]
    at = positions(mask, preprocessing)
    for index in [(0, 0, 0), (15, 15, 15), (3, 9, 12), (8, 1, 5)]:
        expected = linear_reference(image.voxels, np.array([at[axis][index[axis]] for axis in range(3)]))
        assert crop[index] == pytest.approx(expected, abs=0.01)


def test_crop_on_the_voxel_grid_is_the_image_itself():
    geometry = build_geometry((20, 20, 20), (1, 1, 1))
    image = build_image(geometry)
    mask = Mask(np.pad(np.ones((4, 4, 4), bool), ((6, 10), (7, 9), (8, 8))), geometry)
    crop = cut_crop({"ct": image}, mask, ["ct"], setting(8, 8.0))
    assert np.allclose(to_hu(crop)[0], image.voxels[4:12, 5:13, 6:14], atol=1e-3)


def test_coarser_crop_averages_all_it_covers():
    geometry = build_geometry((32, 32, 32), (0.5, 0.5, 0.5))
    image = build_image(geometry)
    mask = Mask(np.pad(np.ones((4, 4, 4), bool), 14), geometry)
    crop = to_hu(cut_crop({"ct": image}, mask, ["ct"], setting(8, 16.0)))[0]
    blocks = image.voxels.reshape(8, 4, 8, 4, 8, 4).mean(axis=(1, 3, 5))
    assert np.allclose(crop, blocks, atol=0.01)


@settings(max_examples=30, deadline=None)
@given(st.floats(4, 40), st.integers(8, 40), st.tuples(*[st.floats(0.3, 3)] * 3))
def test_constant_image_gives_a_constant_crop_at_any_scale(extent_mm, voxels, spacing):
    geometry = build_geometry((90, 90, 90), spacing)
    image = Image(np.full(geometry.shape, 300, np.int16), geometry)
    middle = np.zeros(geometry.shape, bool)
    middle[44:46, 44:46, 44:46] = True
    crop = cut_crop({"ct": image}, Mask(middle, geometry), ["ct"], setting(voxels, min(extent_mm, 80 * min(spacing))))
    assert np.allclose(to_hu(crop), 300, atol=0.01)


def test_outside_of_the_image_is_the_windows_low_end():
    image = build_image()
    corner = np.zeros(image.geometry.shape, bool)
    corner[:2, :2, :2] = True
    mask = Mask(corner, image.geometry)
    crop = cut_crop({"ct": image}, mask, ["ct"], setting(16, 40.0, window=Window(low=-1000, high=400)))
    assert np.all(crop[0, :6] == -1)
    assert crop[0, 9:13, 9:12, 9:14].min() > -1


@pytest.mark.parametrize("extent", ["fixed", "roi"])
@pytest.mark.parametrize("context_mm", [0.0, 3.0, 5.0])
def test_with_a_context_the_crop_of_a_scan_equals_that_of_its_cut_out(extent, context_mm):
    geometry = build_geometry((50, 40, 30), (0.7, 0.7, 1.25))
    image = build_image(geometry)
    mask = build_mask(geometry, 6.0, geometry.to_world((24, 19, 14)))
    kept = tuple(slice(first - int(5 / 0.7), stop + int(5 / 0.7)) for first, stop in mask.bounding_box)
    origin = geometry.affine.copy()
    origin[:3, 3] = geometry.to_world([part.start for part in kept])
    small = Geometry(image.voxels[kept].shape, origin)
    part, part_mask = Image(image.voxels[kept], small), Mask(mask.voxels[kept], small)
    preprocessing = setting(24, 30.0, extent, roi_scale=2.5, context_mm=context_mm, mask_channel=True)
    whole = cut_crop({"ct": image}, mask, ["ct"], preprocessing)
    assert np.array_equal(whole, cut_crop({"ct": part}, part_mask, ["ct"], preprocessing))
    everything = preprocessing.model_copy(update={"context_mm": None})
    assert not np.array_equal(whole, cut_crop({"ct": image}, mask, ["ct"], everything))


def test_beyond_the_context_lies_the_windows_low_end():
    geometry = build_geometry((20, 20, 20), (1, 1, 1))
    image = Image(np.full(geometry.shape, 300, np.int16), geometry)
    mask = Mask(np.pad(np.ones((4, 4, 4), bool), 8), geometry)
    crop = to_hu(cut_crop({"ct": image}, mask, ["ct"], setting(16, 16.0, context_mm=2.0)))[0]
    assert np.allclose(crop[4:12, 4:12, 4:12], 300, atol=0.01)
    crop[4:12, 4:12, 4:12] = -2000
    assert np.all(crop == -2000)


def test_intensities_are_clipped_to_the_window_before_interpolation():
    geometry = Geometry((10, 10, 10), np.eye(4))
    voxels = np.full(geometry.shape, -5000, np.int16)
    voxels[5:] = 30000
    mask = Mask(np.pad(np.ones((2, 2, 2), bool), 4), geometry)
    crop = cut_crop({"ct": Image(voxels, geometry)}, mask, ["ct"], setting(8, 8.0, window=Window(low=-100, high=100)))
    assert np.all(crop[0, :4] == -1)
    assert np.all(crop[0, 4:] == 1)


@settings(max_examples=20, deadline=None)
@given(st.floats(0.1, 50), st.floats(-500, 500), st.integers(0, 99))
def test_percentile_windows_make_the_crop_blind_to_gain_and_offset_inside_the_brain(gain, offset, seed):
    geometry = build_geometry((24, 22, 20), (1, 1, 1))
    inside = np.random.default_rng(seed).uniform(100, 900, geometry.shape)
    brain = np.zeros(geometry.shape, bool)
    brain[2:-2, 2:-2, 2:-2] = True
    mask = Mask(np.pad(np.ones((4, 4, 4), bool), ((10, 10), (9, 9), (8, 8))), geometry)
    window = Window(low=1, high=99, unit="percentile")
    first, second = (
        cut_crop({"ct": Image(np.where(brain, values, 0), geometry)}, mask, ["ct"], setting(8, 8.0, window=window))
        for values in (inside, inside * gain + offset + 2000)
    )
    assert np.allclose(first, second, atol=2e-3)
    low, high = np.percentile(inside[brain], [1, 99])
    expected = np.clip((inside[8:16, 7:15, 6:14] - low) / (high - low), 0, 1) * 2 - 1
    assert np.allclose(first[0], expected, atol=1e-4)


def test_image_of_one_intensity_or_none_has_a_percentile_window_too():
    geometry = build_geometry((20, 20, 20), (1, 1, 1))
    mask = Mask(np.pad(np.ones((4, 4, 4), bool), 8), geometry)
    window = Window(low=1, high=99, unit="percentile")
    for value in (0, 7):
        image = Image(np.full(geometry.shape, value, np.int16), geometry)
        assert np.all(cut_crop({"ct": image}, mask, ["ct"], setting(8, 8.0, window=window)) == -1)


@pytest.mark.parametrize("bounds", [(5.0, 5.0), (9.0, 2.0), (-1.0, 99.0), (1.0, 101.0)])
def test_window_that_is_none_is_refused(bounds):
    with pytest.raises(ValueError, match=r"must be below|must lie in"):
        Window(low=bounds[0], high=bounds[1], unit="percentile")


def test_extent_follows_the_region_but_never_falls_below_the_least():
    geometry = build_geometry((60, 60, 60), (1, 1, 1))
    image = build_image(geometry)
    for radius, scale, edge_mm in ((10, 1.5, 31.5), (3, 1.5, 16.0)):
        mask = build_mask(geometry, radius, geometry.to_world((30, 30, 30)))
        preprocessing = setting(32, 16.0, "roi", roi_scale=scale, mask_channel=True)
        crop = cut_crop({"ct": image}, mask, ["ct"], preprocessing)
        share = crop[1].mean()
        assert share == pytest.approx(mask.volume_mm3 / edge_mm**3, rel=0.02)


def test_channels_come_in_the_order_asked_for_and_the_mask_last():
    image, other = build_image(), build_image(seed=5)
    mask = build_mask()
    preprocessing = Preprocessing(
        crop_voxels=8, extent="fixed", extent_mm=10, windows={"a": WIDE, "b": WIDE}, mask_channel=True
    )
    crop = cut_crop({"a": image, "b": other}, mask, ["b", "a"], preprocessing)
    assert crop.shape == (3, 8, 8, 8)
    assert crop.dtype == np.float32
    assert crop.flags.c_contiguous
    assert np.array_equal(crop[1], cut_crop({"a": image}, mask, ["a"], preprocessing)[0])
    assert 0 == crop[2].min() < crop[2].max() == 1


def test_float64_beyond_single_precision_is_clipped_without_a_warning():
    geometry = build_geometry()
    image = Image(np.full(geometry.shape, 1e300), geometry)
    assert np.all(cut_crop({"ct": image}, build_mask(geometry, 2), ["ct"], setting(8, 4.0)) == 1)


def test_missing_channel_or_window_is_refused():
    case = {"ct": build_image()}
    with pytest.raises(UnfitCase, match="'pet' has no image"):
        cut_crop(case, build_mask(), ["pet"], setting())
    with pytest.raises(UnfitCase, match="'pet' has no window"):
        cut_crop({"pet": build_image()}, build_mask(), ["pet"], setting())


def test_memory_is_proportional_to_the_crop_and_not_to_the_image():
    geometry = build_geometry((300, 300, 200), (1, 1, 1))
    image = Image(np.zeros(geometry.shape, np.int16), geometry)
    region = np.zeros(geometry.shape, bool, order="F")
    region[140:152, 90:102, 70:82] = True
    mask = Mask(region, geometry)
    assert mask.bounding_box == ((140, 152), (90, 102), (70, 82))
    tracemalloc.start()
    cut_crop({"ct": image}, mask, ["ct"], setting(32, 32.0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 1024**2
