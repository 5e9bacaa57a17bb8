"""Real patients through a running service: what is computed, what is refused, and that formats agree."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from service.client import Client
from service.config import BUILT_IN_MODELS
from service.errors import Refused
from service.manifest import read_manifest
from tests.e2e.running import Running
from tests.real_data import real_data

pytestmark = pytest.mark.real
MODEL = "phantom-ct"
CASES = 20


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    real_data("lidc_nodules")
    running = Running(tmp_path_factory.mktemp("up") / "home", BUILT_IN_MODELS, workers=2)
    try:
        with Client(running.until_ready()) as opened:
            yield opened
    finally:
        running.stop()


def check(result: object, names: list[str]) -> None:
    (roi,) = result.rois  # type: ignore[attr-defined]
    assert list(roi.features) == names
    assert roi.roi["voxels"] >= 2
    (prediction,) = roi.predictions
    assert prediction.demonstration
    assert sum(prediction.probabilities.values()) == pytest.approx(1)


def test_lung_nodules_give_a_fused_vector_each(client: Client) -> None:
    names = read_manifest(BUILT_IN_MODELS / MODEL).feature_names
    folder = real_data("lidc_nodules")
    for image in islice(sorted((folder / "image").iterdir()), CASES):
        check(client.extract(image, folder / "nodule_mask" / image.name, model=MODEL), names)


def test_lung_tumours_give_a_fused_vector_each_and_empty_masks_are_refused(client: Client) -> None:
    names = read_manifest(BUILT_IN_MODELS / MODEL).feature_names
    masks = sorted(real_data("nsclc_ct_tnm", "crops").glob("*_mask.nii.gz"))
    images = [mask.with_name(mask.name.replace("mask", "ct")) for mask in masks]
    # An empty mask's crop is the whole cube: the largest images are tried as well as the first ones.
    largest = sorted(range(len(masks)), key=lambda number: -images[number].stat().st_size)[:12]
    tried = sorted({*range(CASES), *largest})
    refusals = [refusal_of(client, images[number], masks[number], names) for number in tried]
    assert refusals.count("empty-roi") == 5
    assert refusals.count(None) == len(tried) - 5


def refusal_of(client: Client, image: Path, mask: Path, names: list[str]) -> str | None:
    try:
        result = client.extract(image, mask, model=MODEL)
    except Refused as refusal:
        return refusal.kind
    check(result, names)
    return None


def test_one_patient_as_nifti_and_as_dicom_gives_the_same_features(client: Client) -> None:
    mask = real_data("sts_sarcoma", "STS_002", "CT_mask.nii.gz")
    series = real_data("sts_sarcoma", "dicom", "STS_002", "CT", "image")
    nifti = real_data("sts_sarcoma", "STS_002", "CT_image.nii.gz")
    from_dicom, from_nifti = (
        client.extract(Path(image), mask, model=MODEL).rois[0].features for image in (series, nifti)
    )
    assert list(from_dicom) == list(from_nifti)
    # The two headers differ in the sixth digit of the spacing; the network computes in single precision.
    deep = [name for name in from_nifti if name.startswith("deep_")]
    assert [from_dicom[name] for name in deep] == pytest.approx([from_nifti[name] for name in deep], rel=1e-5, abs=1e-5)
    radiomics = {name: value for name, value in from_nifti.items() if name not in deep}
    assert {name: from_dicom[name] for name in radiomics} == pytest.approx(radiomics, rel=1e-6, abs=1e-6)


def test_structure_set_through_the_service_gives_the_region_of_its_nifti_mask(client: Client) -> None:
    folder = real_data("sts_sarcoma", "dicom", "STS_002", "CT")
    (structures,) = (path for path in (folder / "mask").iterdir() if path.is_file())
    nifti = real_data("sts_sarcoma", "STS_002", "CT_mask.nii.gz")
    from_structures, from_nifti = (
        client.extract(folder / "image", mask, model=MODEL).rois[0] for mask in (structures, nifti)
    )
    assert from_structures.roi["name"] == "GTV_Mass_CT"
    assert from_structures.roi["voxels"] == from_nifti.roi["voxels"]
    with pytest.raises(Refused, match="GTV_Mass_CT"):
        client.extract(folder / "image", structures, model=MODEL, roi="nonsense")
