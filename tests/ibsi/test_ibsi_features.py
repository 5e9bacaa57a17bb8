"""Features of IBSI on regions small enough to be worked out by hand, and under what must not change them."""

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest

from service.errors import EmptyRoi, RadiomicsRefused, RoiTooSmall
from service.features.ibsi.configuration import (
    ARBITRARY_UNITS,
    CONFIGURATIONS,
    CT,
    DIGITAL_PHANTOM,
    Aggregation,
    Configuration,
    FixedNumber,
    Interpolation,
)
from service.features.ibsi.features import compute_ibsi
from service.ibsi_names import FEATURES
from service.radiomics_names import FEATURES as PYRADIOMICS

ISOTROPIC = (1.0, 1.0, 1.0)
LEVELS = Configuration("levels", discretisation=FixedNumber(8))


def noise(shape=(6, 7, 8), seed=0):
    rng = np.random.default_rng(seed)
    voxels = rng.integers(1, 7, shape)
    mask = np.zeros(shape, dtype=bool)
    mask[1:-1, 1:-1, 1:-1] = rng.random(tuple(size - 2 for size in shape)) < 0.8
    return voxels, mask


def ellipsoid():
    """Noise in a smooth region: of a ragged one, the mesh depends on which way the cubes march."""
    k, j, i = np.indices((9, 20, 14))
    mask = ((k - 4) / 3.2) ** 2 + ((j - 9) / 7.4) ** 2 + ((i - 7) / 4.7) ** 2 < 1
    return np.random.default_rng(5).normal(size=mask.shape), mask


def line(*levels):
    voxels = np.array(levels).reshape(1, 1, -1)
    return voxels, np.ones(voxels.shape, dtype=bool)


def test_names_are_pyradiomics_names_and_codes_are_unique():
    for feature in FEATURES:
        family, _, name = feature.name.partition("_")
        assert name in PYRADIOMICS[family]
    assert len({feature.code for feature in FEATURES}) == len({feature.name for feature in FEATURES}) == len(FEATURES)


def test_every_feature_comes_out_under_its_name_in_the_order_of_the_table():
    found = compute_ibsi(*noise(), ISOTROPIC, LEVELS)
    assert list(found) == [f"ibsi_{feature.name}" for feature in FEATURES]
    assert np.isfinite(list(found.values())).all()


def test_two_voxels_by_hand():
    """A pair of levels 1 and 3: p(1, 3) = p(3, 1) = 1/2."""
    found = compute_ibsi(*line(1, 3), ISOTROPIC, DIGITAL_PHANTOM)
    expected = {
        "glcm_JointEntropy": 1, "glcm_JointEnergy": 0.5, "glcm_Contrast": 4, "glcm_JointAverage": 2,
        "glcm_SumSquares": 1, "glcm_Correlation": -1, "glcm_Autocorrelation": 3, "glcm_Id": 1 / 3, "glcm_Idm": 1 / 5,
        "glcm_Idn": 1 / (1 + 2 / 3), "glcm_Idmn": 1 / (1 + 4 / 9), "glcm_InverseVariance": 1 / 4,
        "glrlm_ShortRunEmphasis": 1, "glrlm_RunPercentage": 1, "glrlm_HighGrayLevelRunEmphasis": 5,
        "glszm_ZonePercentage": 1, "glszm_SmallAreaEmphasis": 1, "gldm_LargeDependenceEmphasis": 1,
        "ngtdm_Coarseness": 1 / 2, "ngtdm_Contrast": (0.25 * 4 * 2) / 2 * (4 / 2),
        "firstorder_Mean": 2, "firstorder_Kurtosis": 1 - 3, "firstorder_Entropy": 1,
        "firstorder_RootMeanSquared": 5**0.5, "shape_VoxelVolume": 2, "shape_MajorAxisLength": 4 * 0.5**0.5,
    }  # fmt: skip
    assert {name: found[f"ibsi_{name}"] for name in expected} == pytest.approx(expected)


def test_a_flat_region_by_hand():
    """A row of four voxels of level 1: one run along the row, four across each other direction."""
    found = compute_ibsi(*line(1, 1, 1, 1), ISOTROPIC, DIGITAL_PHANTOM)
    expected = {
        "glcm_JointEntropy": 0, "glcm_Contrast": 0, "glcm_Id": 1, "glcm_MaximumProbability": 1,
        "glrlm_LongRunEmphasis": 16, "glrlm_RunPercentage": 1 / 4, "glszm_LargeAreaEmphasis": 16,
        "gldm_LargeDependenceEmphasis": (4 + 9 + 9 + 4) / 4, "ngtdm_Coarseness": 1e6, "ngtdm_Contrast": 0,
        "firstorder_Variance": 0, "firstorder_Uniformity": 1,
    }  # fmt: skip
    assert {name: found[f"ibsi_{name}"] for name in expected} == pytest.approx(expected)


def test_a_voxel_without_neighbours_does_not_enter_the_ngtdm():
    with_lonely = compute_ibsi(*line(1, 3, 1), ISOTROPIC, DIGITAL_PHANTOM)
    voxels, mask = line(1, 3, 1, 5, 5)
    mask[..., 3] = False
    apart = compute_ibsi(voxels, mask, ISOTROPIC, DIGITAL_PHANTOM)
    for name in ("Busyness", "Coarseness", "Contrast", "Complexity", "Strength"):
        assert apart[f"ibsi_ngtdm_{name}"] == pytest.approx(with_lonely[f"ibsi_ngtdm_{name}"])


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_turning_the_volume_changes_nothing(order):
    (voxels, mask), spacing = ellipsoid(), (3.0, 1.0, 2.0)
    chosen = replace(LEVELS, interpolation=Interpolation((1.5, 1.5, 1.5), "cubic"))
    upright = compute_ibsi(voxels, mask, spacing, chosen)
    turned = compute_ibsi(
        voxels.transpose(order), mask.transpose(order), tuple(spacing[axis] for axis in order), chosen
    )
    assert turned == pytest.approx(upright, rel=1e-9)


def test_flipping_the_volume_changes_nothing():
    voxels, mask = ellipsoid()
    chosen = replace(LEVELS, interpolation=Interpolation((1.5, 1.5, 1.5)))
    upright = compute_ibsi(voxels, mask, (3.0, 1.0, 1.0), chosen)
    assert compute_ibsi(voxels[::-1, :, ::-1], mask[::-1, :, ::-1], (3.0, 1.0, 1.0), chosen) == pytest.approx(upright)


@pytest.mark.parametrize("aggregation", Aggregation)
def test_background_around_the_region_changes_nothing(aggregation):
    voxels, mask = noise()
    chosen = replace(LEVELS, aggregation=aggregation)
    widened = compute_ibsi(np.pad(voxels, 4, constant_values=99), np.pad(mask, 4), ISOTROPIC, chosen)
    assert widened == pytest.approx(compute_ibsi(voxels, mask, ISOTROPIC, chosen), rel=1e-12)


def test_of_a_single_slice_all_ways_of_merging_slices_agree():
    voxels, mask = noise((3, 9, 9))
    for ending in ("avg", "comb"):
        found = [
            compute_ibsi(voxels, mask, ISOTROPIC, replace(LEVELS, aggregation=Aggregation(f"{dimension}_{ending}")))
            for dimension in ("2D", "2_5D", "3D")
        ]
        assert found[1] == pytest.approx(found[0])
        assert found[2] == pytest.approx(found[0])


def test_equal_slices_far_apart_give_the_average_of_one():
    voxels, mask = noise((3, 9, 9))
    twice = np.concatenate([voxels, voxels]), np.concatenate([mask, mask])
    chosen = replace(LEVELS, aggregation=Aggregation.SLICES_MERGED)
    one, two = compute_ibsi(voxels, mask, ISOTROPIC, chosen), compute_ibsi(*twice, ISOTROPIC, chosen)
    textures = [f"ibsi_{feature.name}" for feature in FEATURES if feature.aggregated]
    assert {name: two[name] for name in textures} == pytest.approx({name: one[name] for name in textures})


def test_zones_and_dependence_of_two_slices_by_hand():
    """Slices 1 1 and 1 2: zones of sizes 2; 1 and 1; and all in one volume, where three voxels of level 1 touch."""
    voxels = np.array([[[1, 1]], [[1, 2]]])
    mask = np.ones(voxels.shape, dtype=bool)
    expected = {
        Aggregation.SLICES_MERGED: ((1 / 2 + 2 / 2) / 2, (4 + 1) / 2, (4 + 1) / 2),
        Aggregation.DIRECTIONS_MERGED: (3 / 4, (4 + 1 + 1) / 3, (4 + 4 + 1 + 1) / 4),
        Aggregation.VOLUME_MERGED: (2 / 4, (9 + 1) / 2, (9 + 9 + 9 + 1) / 4),
    }
    for aggregation, (percentage, zones, dependence) in expected.items():
        found = compute_ibsi(voxels, mask, ISOTROPIC, replace(DIGITAL_PHANTOM, aggregation=aggregation))
        assert found["ibsi_glszm_ZonePercentage"] == pytest.approx(percentage)
        assert found["ibsi_glszm_LargeAreaEmphasis"] == pytest.approx(zones)
        assert found["ibsi_gldm_LargeDependenceEmphasis"] == pytest.approx(dependence)


def test_a_mask_that_fills_the_image_is_no_obstacle():
    voxels, _ = noise()
    found = compute_ibsi(voxels, np.ones(voxels.shape, dtype=bool), ISOTROPIC, LEVELS)
    assert found["ibsi_shape_VoxelVolume"] == voxels.size


def test_resegmentation_leaves_the_morphological_mask_alone():
    voxels, mask = noise()
    narrow = compute_ibsi(voxels, mask, ISOTROPIC, replace(LEVELS, interval=(2, 5)))
    wide = compute_ibsi(voxels, mask, ISOTROPIC, LEVELS)
    shape = [name for name in wide if name.startswith("ibsi_shape")]
    assert {name: narrow[name] for name in shape} == {name: wide[name] for name in shape}
    assert (narrow["ibsi_firstorder_Minimum"], narrow["ibsi_firstorder_Maximum"]) == (2, 5)


@pytest.mark.parametrize("chosen", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_every_configuration_computes_a_sphere(chosen):
    k, j, i = np.indices((16, 40, 40))
    mask = (3 * (k - 8)) ** 2 + (j - 20) ** 2 + (i - 20) ** 2 < 15**2
    voxels = np.random.default_rng(4).normal(0, 80, mask.shape).astype(np.float32)
    found = compute_ibsi(voxels, mask, (3.0, 1.0, 1.0), chosen)
    assert found["ibsi_shape_MeshVolume"] == pytest.approx(4 / 3 * np.pi * 15**3, rel=0.05)
    assert np.isfinite(list(found.values())).all()


def test_defaults_round_hounsfield_units_only():
    assert CT.interpolation is not None
    assert CT.interpolation.whole_numbers
    assert ARBITRARY_UNITS.interpolation is not None
    assert not ARBITRARY_UNITS.interpolation.whole_numbers


def test_an_empty_mask_is_refused():
    with pytest.raises(EmptyRoi):
        compute_ibsi(np.zeros((3, 3, 3)), np.zeros((3, 3, 3), dtype=bool), ISOTROPIC)


def test_a_region_that_vanishes_on_the_new_grid_is_refused():
    mask = np.zeros((1, 9, 9), dtype=bool)
    mask[0, 3, 3] = True
    with pytest.raises(EmptyRoi):
        compute_ibsi(
            np.zeros((1, 9, 9)), mask, ISOTROPIC, replace(LEVELS, interpolation=Interpolation((1.0, 4.0, 4.0)))
        )


def test_a_single_voxel_is_refused():
    mask = np.zeros((3, 3, 3), dtype=bool)
    mask[1, 1, 1] = True
    with pytest.raises(RoiTooSmall):
        compute_ibsi(np.zeros((3, 3, 3)), mask, ISOTROPIC, LEVELS)


def test_a_column_has_no_texture_within_slices():
    voxels = np.array([1, 2, 3]).reshape(3, 1, 1)
    chosen = replace(LEVELS, aggregation=Aggregation.SLICES_MERGED)
    with pytest.raises(RadiomicsRefused):
        compute_ibsi(voxels, np.ones(voxels.shape, dtype=bool), ISOTROPIC, chosen)
