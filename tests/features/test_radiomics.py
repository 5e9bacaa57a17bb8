import logging
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from radiomics.featureextractor import RadiomicsFeatureExtractor

from service.errors import RadiomicsRefused, RoiTooSmall
from service.features.radiomics import compute_radiomics, name_engine
from service.features.vector import FeatureVector
from service.imaging.case import Image, Mask
from service.imaging.geometry import Geometry
from service.radiomics_settings import IBSI_PRESETS, PRESETS, parse_parameters
from tests.build import build_geometry, build_image, build_mask, write_mha

OBLIQUE = ((0.8, -0.6, 0.0), (0.6, 0.8, 0.0), (0.0, 0.0, 1.0))
LEFT_HANDED = ((1, 0, 0), (0, 1, 0), (0, 0, -1))
FIRST_ORDER = "featureClass: {firstorder: [Mean, Maximum]}\n"


def call_pyradiomics(folder: Path, image: Image, mask: Mask, document: dict[str, Any] | None = None) -> FeatureVector:
    """PyRadiomics as its documentation shows it: two files and a parameter dictionary."""
    write_mha(folder / "image.mha", image)
    write_mha(folder / "mask.mha", mask)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        extractor = RadiomicsFeatureExtractor(document) if document else RadiomicsFeatureExtractor()
        result = extractor.execute(str(folder / "image.mha"), str(folder / "mask.mha"))
    kept = {name: float(value) for name, value in result.items() if not name.startswith("diagnostics_")}
    return FeatureVector(tuple(kept), np.array(list(kept.values())))


def assert_same(got: FeatureVector, expected: FeatureVector) -> None:
    """Names and order are PyRadiomics'; values within the contract's 1e-9 relative or 1e-12 absolute."""
    assert got.names == expected.names
    np.testing.assert_allclose(got.values, expected.values, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", ["int16", "uint16", "float32", "float64", "int32", "uint8"])
def test_values_and_order_are_those_of_pyradiomics_on_files(tmp_path, dtype):
    image, mask = build_image(dtype=dtype), build_mask()
    assert_same(compute_radiomics(image, mask, PRESETS["original"]), call_pyradiomics(tmp_path, image, mask))


@pytest.mark.parametrize("direction", [OBLIQUE, LEFT_HANDED])
def test_oblique_and_left_handed_grids_give_the_same_too(tmp_path, direction):
    geometry = build_geometry(direction_lps=direction)
    image, mask = build_image(geometry), build_mask(geometry)
    assert_same(compute_radiomics(image, mask, PRESETS["original"]), call_pyradiomics(tmp_path, image, mask))


def test_the_full_preset_has_pyradiomics_values_and_order(tmp_path):
    image, mask = build_image(), build_mask()
    expected = call_pyradiomics(tmp_path, image, mask, PRESETS["full"].document())
    assert_same(compute_radiomics(image, mask, PRESETS["full"]), expected)
    assert expected.names == PRESETS["full"].feature_names()


@pytest.mark.parametrize(
    "parameters",
    [
        "setting: {binCount: 16}",
        "setting: {binWidth: 12.5, distances: [1, 2], weightingNorm: euclidean, gldm_a: 1, voxelArrayShift: 1000}",
        "setting: {resampledPixelSpacing: [1, 1, 2], interpolator: sitkLinear, padDistance: 3}",
        "setting: {normalize: true, normalizeScale: 100, removeOutliers: 3, binWidth: 5}",
        "setting: {resegmentRange: [-2, 2], resegmentMode: sigma, resegmentShape: true}",
        "setting: {force2D: true, force2Ddimension: 0, symmetricalGLCM: false}\nfeatureClass: {glcm: , glrlm: }",
        "setting: {preCrop: true, padDistance: 6}\nimageType: {LoG: {sigma: [1]}}",
        "imageType: {Square: {}, SquareRoot: {}, Logarithm: {}, Exponential: {}}",
        "imageType: {Gradient: {gradientUseSpacing: false}}",
        "imageType: {Wavelet: {wavelet: haar, level: 2, binWidth: 10}}\nfeatureClass: {firstorder: , glszm: }",
        "imageType: {Wavelet: {start_level: 1}}\nsetting: {force2D: true}\nfeatureClass: {ngtdm: }",
        "imageType: {LoG: {sigma: [1, 2.5]}}\nfeatureClass: {firstorder: [StandardDeviation, Mean], shape: }",
    ],
)
def test_every_kind_of_setting_is_honoured(tmp_path, parameters):
    image, mask = build_image(), build_mask()
    features = compute_radiomics(image, mask, parse_parameters(parameters))
    stock = call_pyradiomics(tmp_path, image, mask, yaml.safe_load(parameters))
    assert set(features.names) == set(stock.names)
    assert_same(features, stock.select(features.names))


def test_shape2d_is_that_of_pyradiomics_on_a_flat_region(tmp_path):
    flat = build_mask().voxels.copy()
    flat[:, :, :7] = flat[:, :, 8:] = False
    image, mask = build_image(), Mask(flat, build_geometry())
    parameters = "setting: {force2D: true}\nfeatureClass: {shape2D: }"
    stock = call_pyradiomics(tmp_path, image, mask, yaml.safe_load(parameters))
    assert_same(compute_radiomics(image, mask, parse_parameters(parameters)), stock)
    with pytest.raises(RadiomicsRefused):
        compute_radiomics(image, build_mask(), parse_parameters(parameters))


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "uint16"])
def test_a_region_over_the_whole_range_of_its_voxel_type_is_binned_as_in_a_wider_type(dtype):
    geometry, mask = build_geometry(), build_mask()
    info = np.iinfo(dtype)
    voxels = np.random.default_rng(0).integers(info.min, info.max, geometry.shape, endpoint=True)
    first, last = np.argwhere(mask.voxels)[[0, -1]]
    voxels[tuple(first)], voxels[tuple(last)] = info.min, info.max
    settings = parse_parameters(f"setting: {{binWidth: {25 if info.bits == 8 else 500}}}")
    narrow = compute_radiomics(Image(voxels.astype(dtype), geometry), mask, settings)
    wide = compute_radiomics(Image(voxels.astype("int32"), geometry), mask, settings)
    assert narrow == wide


def test_a_region_of_one_grey_level_gives_what_pyradiomics_gives(tmp_path):
    image, mask = Image(np.full(build_geometry().shape, 40, np.int16), build_geometry()), build_mask()
    features = compute_radiomics(image, mask, PRESETS["original"])
    assert_same(features, call_pyradiomics(tmp_path, image, mask))


def test_two_voxels_in_a_line_need_the_caller_s_consent():
    voxels = np.zeros(build_geometry().shape, bool)
    voxels[3:5, 4, 5] = True
    mask = Mask(voxels, build_geometry())
    with pytest.raises(RoiTooSmall) as refusal:
        compute_radiomics(build_image(), mask, PRESETS["original"])
    assert refusal.value.facts == {"dimensions": 1, "needed": 2}
    allowed = parse_parameters("setting: {minimumROIDimensions: 1}\n" + FIRST_ORDER)
    assert compute_radiomics(build_image(), mask, allowed).names == (
        "original_firstorder_Maximum",
        "original_firstorder_Mean",
    )


def test_a_region_below_the_settings_own_minimum_is_refused_with_both_counts():
    mask = build_mask()
    settings = parse_parameters(f"setting: {{minimumROISize: {mask.count}}}")
    with pytest.raises(RoiTooSmall) as refusal:
        compute_radiomics(build_image(), mask, settings)
    assert refusal.value.facts == {"voxels": mask.count, "needed": mask.count + 1}


def test_a_region_that_resegmentation_empties_is_refused():
    settings = parse_parameters("setting: {resegmentRange: [5000, 6000]}")
    with pytest.raises(RoiTooSmall, match="resegment"):
        compute_radiomics(build_image(), build_mask(), settings)


def test_a_region_that_resampling_shrinks_to_nothing_is_refused():
    settings = parse_parameters("setting: {resampledPixelSpacing: [40, 40, 40]}\n" + FIRST_ORDER)
    with pytest.raises(RoiTooSmall, match="resampling"):
        compute_radiomics(build_image(), build_mask(radius_mm=2.6), settings)


def test_a_region_without_any_background_is_refused_for_what_it_is():
    geometry = build_geometry()
    with pytest.raises(RadiomicsRefused, match="fills the whole image"):
        compute_radiomics(build_image(), Mask(np.ones(geometry.shape, bool), geometry), PRESETS["original"])


def test_an_image_too_small_for_a_filter_is_refused_with_the_size_needed():
    settings = parse_parameters("imageType: {Original: , LoG: {sigma: [2, 40.0]}}\n" + FIRST_ORDER)
    with pytest.raises(RadiomicsRefused) as refusal:
        compute_radiomics(build_image(), build_mask(), settings)
    assert refusal.value.facts["image_types"] == ["log-sigma-40-0-mm-3D"]
    assert refusal.value.facts["least_shape"] == [55, 51, 17]  # ceil(sigma / spacing) + 1
    enough = build_geometry((55, 51, 17))
    assert compute_radiomics(build_image(enough), build_mask(enough), settings).names == settings.feature_names()


def test_pyradiomics_own_text_does_not_reach_the_refusal():
    image = Image(np.zeros(build_geometry().shape, np.int16), build_geometry())
    settings = parse_parameters("setting: {distances: [1, 1]}\nimageType: {Square: }\n" + FIRST_ORDER)
    assert name_engine(settings) == "pyradiomics"
    with pytest.raises(RadiomicsRefused) as refusal:
        compute_radiomics(image, build_mask(), settings)
    assert refusal.value.detail == "PyRadiomics stopped with ValueError on this image, region and settings"
    assert refusal.value.__suppress_context__


def test_nothing_is_printed_and_no_warning_leaks(capfd, caplog):
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("radiomics").setLevel(logging.DEBUG)
        compute_radiomics(build_image(), build_mask(), parse_parameters("setting: {force2D: true, binCount: 8}"))
    assert capfd.readouterr() == ("", "")
    assert not [record for record in caplog.records if record.name.startswith("radiomics")]


def test_threads_may_share_the_process():
    image, masks = build_image(), [build_mask(radius_mm=radius) for radius in (4, 5, 6, 7)]
    filters = list(warnings.filters)
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda mask: compute_radiomics(image, mask, PRESETS["original"]), masks))
    assert together == [compute_radiomics(image, mask, PRESETS["original"]) for mask in masks]
    assert warnings.filters == filters


def turn(voxels: NDArray[Any]) -> NDArray[Any]:
    return np.flip(voxels, 0)


def test_mirroring_the_patient_changes_no_symmetric_feature():
    geometry = build_geometry()
    image, mask = build_image(), build_mask(radius_mm=6)
    mirrored = Image(turn(image.voxels), geometry), Mask(turn(mask.voxels), geometry)
    settings = parse_parameters("featureClass: {shape: , firstorder: }")
    once, twice = compute_radiomics(image, mask, settings), compute_radiomics(*mirrored, settings)
    np.testing.assert_allclose(once.values, twice.values, rtol=1e-9)


def test_volume_follows_the_spacing():
    settings = parse_parameters("featureClass: {shape: [VoxelVolume, MeshVolume]}")
    one = build_geometry(spacing_mm=(1, 1, 1))
    mask = Mask(build_mask(one).voxels, one)
    double = Geometry(one.shape, one.affine @ np.diag([2, 2, 2, 1]))
    small = compute_radiomics(build_image(one), mask, settings).values
    large = compute_radiomics(Image(build_image(one).voxels, double), Mask(mask.voxels, double), settings).values
    np.testing.assert_allclose(large, 8 * small, rtol=1e-12)


@pytest.mark.parametrize(
    ("parameters", "engine"),
    [
        ("{}", "radfuse"),
        ("imageType: {LoG: {sigma: [1]}, Wavelet: , Square: , Gradient: }", "radfuse"),
        ("setting: {binCount: 16, weightingNorm: euclidean, force2D: true}", "radfuse"),
        ("setting: {resampledPixelSpacing: [1, 1, 2], interpolator: sitkLinear}", "radfuse+pyradiomics"),
        ("imageType: {Wavelet: {level: 2}}", "radfuse+pyradiomics"),
    ],
)
def test_the_engine_that_computes_a_document_is_named(parameters, engine):
    assert name_engine(parse_parameters(parameters)) == engine


def test_ibsi_presets_are_ibsi_s_own_features_under_names_of_their_own():
    image, mask = build_image(), build_mask()
    ct, mr = (compute_radiomics(image, mask, IBSI_PRESETS["ibsi"], modality) for modality in ("CT", "MR"))
    assert all(name.startswith("ibsi_") for name in ct.names)
    assert ct.names == mr.names
    assert ct == compute_radiomics(image, mask, IBSI_PRESETS["ibsi-c"])
    assert ct != mr
