"""One acquisition in two storage orders: equal features by default, PyRadiomics' values on the file on demand."""

import warnings

import numpy as np
import pytest
from radiomics.featureextractor import RadiomicsFeatureExtractor

from service.bundle import ModelBundle
from service.imaging.case import Case
from service.imaging.guard import Limits
from service.imaging.reader import CaseFiles, read_case
from service.pipeline import extract
from service.radiomics_settings import PRESETS
from tests.build import build_image, build_mask, reorder, write_nrrd
from tests.bundle_builder import write_bundle
from tests.real_data import real_data

LIMITS = Limits(decoded_bytes=2**28, voxels=2**26, files=10)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return ModelBundle.load(write_bundle(tmp_path_factory.mktemp("models")), device="cpu")


def extract_files(image, mask, bundle, axes, preset="full"):
    case = read_case(CaseFiles({"ct": [image]}, [mask]), roi=None, resample_mask=False, limits=LIMITS, case_id=None)
    return extract(case, bundle, PRESETS[preset], axes=axes)


def run_pyradiomics(image, mask, preset):
    """PyRadiomics' own reading and computing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its validation uses deprecated ways of importing
        extractor = RadiomicsFeatureExtractor(PRESETS[preset].document(), additionalInfo=False)
        return {key: float(value) for key, value in extractor.execute(str(image), str(mask)).items()}


def features_of(result):
    return dict(result.regions[0].features.items())


@pytest.fixture(scope="module")
def stored_orders(tmp_path_factory):
    """The same phantom in LPS order, and with its last two axes swapped and one reversed."""
    folder = tmp_path_factory.mktemp("orders")
    image, mask = build_image(), build_mask()
    turned = [reorder(volume, (0, 2, 1), (False, True, False)) for volume in (image, mask)]
    pairs = {"plain": (image, mask), "turned": turned}
    return {
        name: tuple(write_nrrd(folder / f"{name}-{k}.nrrd", volume) for k, volume in enumerate(pair))
        for name, pair in pairs.items()
    }


def test_by_default_the_storage_order_changes_no_feature(stored_orders, bundle):
    plain, turned = (features_of(extract_files(*stored_orders[name], bundle, "canonical")) for name in stored_orders)
    assert plain == turned


def test_stored_axes_give_what_pyradiomics_computes_on_the_file(stored_orders, bundle):
    image, mask = stored_orders["turned"]
    reference = run_pyradiomics(image, mask, "full")
    got = features_of(extract_files(image, mask, bundle, "stored"))
    radiomics = {key: value for key, value in got.items() if not key.startswith("deep_")}
    assert radiomics == pytest.approx(reference, rel=1e-9, abs=1e-12, nan_ok=True)


def test_stored_axes_leave_embedding_and_predictions_as_they_are(stored_orders, bundle):
    canonical, stored = (
        extract_files(*stored_orders["turned"], bundle, axes, "original") for axes in ("canonical", "stored")
    )
    a, b = canonical.regions[0], stored.regions[0]
    deep = [name for name in a.features.names if name.startswith("deep_")]
    assert np.array_equal(a.features.select(deep).values, b.features.select(deep).values)
    assert a.predictions == b.predictions
    assert any("computed beside" in note for note in stored.notes)


def test_stored_axes_of_several_channels_and_regions_are_those_of_each_file(tmp_path):
    bundle = ModelBundle.load(write_bundle(tmp_path / "models", channels=("t1", "flair"), mask_channel=True))
    files = {
        name: write_nrrd(tmp_path / f"{name}.nrrd", reorder(volume, (0, 2, 1), (False, True, False)))
        for name, volume in {"t1": build_image(seed=1), "flair": build_image(seed=2)}.items()
    }
    masks = [
        write_nrrd(
            tmp_path / f"mask{radius}.nrrd", reorder(build_mask(radius_mm=radius), (0, 2, 1), (False, True, False))
        )
        for radius in (5.0, 4.0)
    ]
    cases = [
        read_case(
            CaseFiles({name: [path] for name, path in files.items()}, [mask]),
            roi=None, resample_mask=False, limits=LIMITS, case_id=None,
        )
        for mask in masks
    ]  # fmt: skip
    both = Case(None, cases[0].images, tuple(case.masks[0] for case in cases))
    for region, mask in zip(extract(both, bundle, PRESETS["full"], axes="stored").regions, masks, strict=True):
        got = dict(region.features.items())
        for name, path in files.items():
            reference = run_pyradiomics(path, mask, "full")
            assert {key: got[f"{name}_{key}"] for key in reference} == pytest.approx(
                reference, rel=1e-9, abs=1e-12, nan_ok=True
            )


@pytest.mark.real
@pytest.mark.parametrize("case", ["brain1", "brain2", "breast1"])
def test_stored_axes_give_pyradiomics_values_on_its_own_cases(case, bundle):
    folder = real_data("pyradiomics_cases")
    image, mask = folder / f"{case}_image.nrrd", folder / f"{case}_label.nrrd"
    reference = run_pyradiomics(image, mask, "original")
    got = features_of(extract_files(image, mask, bundle, "stored", "original"))
    assert {key: got[key] for key in reference} == pytest.approx(reference, rel=1e-9, abs=1e-12)
