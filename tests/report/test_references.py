"""A case that came as DICOM knows the objects it came from; any other knows none."""

import io

import numpy as np
import pydicom
import pytest
from highdicom.sr import srread
from pydicom.uid import generate_uid

from service.bundle import ModelBundle
from service.imaging.guard import Limits
from service.imaging.reader import CaseFiles, read_case
from service.imaging.references import describe_references
from service.pipeline import extract
from service.report.structured_report import write_report
from tests.build import build_image, build_mask, write_dicom_series, write_nifti
from tests.bundle_builder import write_bundle
from tests.imaging.segments import write_seg
from tests.imaging.structures import box, on_slice, write_rtstruct
from tests.real_data import real_data

LIMITS = Limits(decoded_bytes=10**8, voxels=10**7, files=100)
IMAGE = build_image()


@pytest.fixture
def series(tmp_path):
    return write_dicom_series(tmp_path / "s", IMAGE)


def read(images, mask, roi=None):
    files = CaseFiles({"ct": images}, [mask])
    return read_case(files, roi=roi, resample_mask=False, limits=LIMITS, case_id="case-7")


def references_of(case):
    return describe_references(
        {channel: image.source for channel, image in case.images.items()}, [mask.source for mask in case.masks]
    )


def write_segments(tmp_path, series):
    return write_seg(tmp_path / "seg", series, build_mask().voxels[..., np.newaxis])


def write_contours(tmp_path, series, **identifiers):
    frame = pydicom.dcmread(series[0]).FrameOfReferenceUID

    def identify(dataset):
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.3", generate_uid()
        for keyword, value in identifiers.items():
            setattr(dataset, keyword, value)

    square = [on_slice(IMAGE.geometry, index, box((4, 12), (4, 12))) for index in (5, 6, 7)]
    return write_rtstruct(tmp_path / "rt", {"none": [], "GTV": square}, frame=frame, change=identify)


def test_a_series_and_a_segment_are_known(tmp_path, series):
    path = write_segments(tmp_path, series)
    found = references_of(read(series[::-1], path))
    first, segmentation = pydicom.dcmread(series[0]), pydicom.dcmread(path)
    assert found["images"]["ct"]["study"] == first.StudyInstanceUID
    assert found["images"]["ct"]["series"] == first.SeriesInstanceUID
    assert found["images"]["ct"]["sop_class"] == first.SOPClassUID
    assert set(found["images"]["ct"]["instances"]) == {pydicom.dcmread(one).SOPInstanceUID for one in series}
    assert found["regions"] == [
        {
            "study": segmentation.StudyInstanceUID,
            "series": segmentation.SeriesInstanceUID,
            "sop_class": segmentation.SOPClassUID,
            "instance": segmentation.SOPInstanceUID,
            "number": 1,
        }
    ]


def test_an_roi_of_a_structure_set_is_known_by_its_number(tmp_path, series):
    path = write_contours(tmp_path, series)
    (region,) = references_of(read(series, path, "GTV"))["regions"]
    assert (region["instance"], region["number"]) == (pydicom.dcmread(path).SOPInstanceUID, 2)


@pytest.mark.parametrize("bad", ["", "Mustermann", "1.2." + "3" * 70])
def test_what_is_no_identifier_is_none(tmp_path, series, bad):
    with pydicom.config.disable_value_validation():
        path = write_contours(tmp_path, series, StudyInstanceUID=bad)
    assert references_of(read(series, path, "GTV")) is None


def test_volume_files_have_none(tmp_path, series):
    image, mask = write_nifti(tmp_path / "i", IMAGE), write_nifti(tmp_path / "m", build_mask())
    assert references_of(read([image], mask)) is None
    assert references_of(read(series, mask)) is None


def test_a_result_carries_them(tmp_path, series):
    bundle = ModelBundle.load(write_bundle(tmp_path / "models"))
    case = read(series, write_segments(tmp_path, series))
    document = extract(case, bundle).document()
    assert document["references"] == references_of(case)
    assert document["provenance"]["intensity_unit"] == "[hnsf'U]"


@pytest.mark.real
def test_a_real_case_with_contours_becomes_a_report_without_its_patient(tmp_path):
    folder = real_data("ibsi", "ibsi_1_ct_radiomics_phantom", "dicom")
    (mask,) = (folder / "mask").iterdir()
    series = sorted((folder / "image").iterdir())
    files = CaseFiles({"ct": series}, [mask])
    limits = Limits(decoded_bytes=10**9, voxels=10**9, files=1000)
    case = read_case(files, roi=None, resample_mask=False, limits=limits, case_id="case-7")
    bundle = ModelBundle.load(write_bundle(tmp_path / "models"))
    document = {"case_id": "case-7", **extract(case, bundle).document()}
    report = srread(io.BytesIO(write_report(document)))
    source = pydicom.dcmread(mask)
    assert report.StudyInstanceUID == pydicom.dcmread(series[0]).StudyInstanceUID
    assert len(report.get_evidence()) == len(series) + 1
    (group,) = report.content.get_volumetric_roi_measurement_groups()
    values = {one.name.value: one.value for one in group.get_measurements()}
    assert values["RNU0"] == document["rois"][0]["features"]["original_shape_MeshVolume"]
    assert report.PatientID == "case-7" != source.PatientID
    for keyword in ("PatientName", "PatientBirthDate", "PatientSex", "InstitutionName", "AccessionNumber"):
        assert not report.get(keyword)
