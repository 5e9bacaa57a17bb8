"""Real files: what agrees with other readings of them, and what is refused."""

import csv
from itertools import islice

import nibabel
import numpy as np
import pytest

from service.errors import CaseError, EmptyRoi, IrregularSeries
from service.imaging.case import Image
from service.imaging.guard import Limits
from service.imaging.reader import CaseFiles, read_case, read_image
from service.imaging.volumes import read_volume
from tests.real_data import real_data

pytestmark = pytest.mark.real
LIMITS = Limits(decoded_bytes=2**30, voxels=2**28, files=2000)


def read(image, mask, roi=None):
    files = CaseFiles({"ct": [image]}, [mask])
    return read_case(files, roi=roi, resample_mask=False, limits=LIMITS, case_id=None)


def test_ibsi_ct_phantom_is_read_with_its_published_mask_volume():
    folder = real_data("ibsi", "ibsi_1_ct_radiomics_phantom", "nifti")
    case = read(folder / "image" / "phantom.nii.gz", folder / "mask" / "mask.nii.gz")
    assert case.geometry.shape == (204, 201, 60)
    assert np.allclose(case.geometry.spacing_mm, (0.977, 0.977, 3.0), atol=1e-3)
    assert case.masks[0].count == 125256
    assert case.masks[0].volume_mm3 == pytest.approx(358_000, rel=0.01)


@pytest.mark.parametrize("name", ["CT", "PET", "MR_T1"])
def test_dicom_and_nifti_of_one_patient_are_one_image(name):
    series = sorted(real_data("sts_sarcoma", "dicom", "STS_002", name, "image").iterdir())
    dicom = read_image(series, LIMITS)
    nifti = read_volume(real_data("sts_sarcoma", "STS_002", f"{name}_image.nii.gz"), LIMITS)
    assert dicom.geometry.matches(nifti.geometry)
    assert dicom.modality == {"CT": "CT", "PET": "PT", "MR_T1": "MR"}[name]
    if name == "PET":  # both single precision, rounded on different ways from counts to SUV
        assert np.allclose(dicom.voxels, nifti.voxels, rtol=3e-7, atol=1e-7)
    else:
        assert np.array_equal(dicom.voxels, nifti.voxels)


def test_lung_nodules_are_read():
    folder = real_data("lidc_nodules")
    for image in islice(sorted((folder / "image").iterdir()), 20):
        case = read(image, folder / "nodule_mask" / image.name)
        assert case.images["ct"].voxels.dtype == np.int16
        assert case.masks[0].count == np.count_nonzero(
            np.asarray(nibabel.load(folder / "nodule_mask" / image.name).dataobj)
        )


def test_lung_tumours_are_read_and_the_five_empty_masks_refused():
    folder = real_data("nsclc_ct_tnm", "crops")
    empty = []
    for mask in sorted(folder.glob("*_mask.nii.gz")):
        try:
            case = read(mask.with_name(mask.name.replace("mask", "ct")), mask)
        except EmptyRoi:
            empty.append(mask.name)
        else:
            assert case.geometry.spacing_mm == (1, 1, 1)
    assert len(empty) == 5


def test_odd_dicom_files_are_read_or_refused():
    root = real_data("dicom_odd")
    with (root / "manifest.csv").open() as file:
        paths = [root / row["file"] for row in csv.DictReader(file)]
    refusals = []
    for path in paths:
        try:
            assert isinstance(read_image([path], LIMITS), Image)
        except CaseError as refusal:
            refusals.append((path.stem, refusal.detail))
    assert 100 < len(refusals) < len(paths) - 10
    assert not [stem for stem, detail in refusals if stem in detail]


@pytest.mark.parametrize(
    ("folder", "words"),
    [
        ("gantrytilting", r"14\.00 degrees"),
        ("sliceincrement", r"usually 5 mm apart .* 10 mm after 28\.107 mm"),
        ("sliceorientation", "2 of 4 slices are oriented otherwise"),
    ],
)
def test_irregular_series_are_refused_with_positions(folder, words):
    series = real_data("dicom_odd", "dicom2nifti", "failing", folder, "001")
    with pytest.raises(IrregularSeries, match=words):
        read_image(sorted(series.iterdir()), LIMITS)


@pytest.mark.parametrize("kind", ["compressed_rle", "compressed_j2k"])
def test_compressed_series_equal_the_uncompressed_one(kind):
    folder = real_data("dicom_odd", "dicom2nifti", "generic")
    packed = read_image(sorted((folder / kind / "001").iterdir()), LIMITS)
    plain = read_image(sorted((folder / "compressed" / "001").iterdir()), LIMITS)
    assert packed.geometry.matches(plain.geometry)
    assert np.array_equal(packed.voxels, plain.voxels)
