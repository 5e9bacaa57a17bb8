from collections import Counter

import pytest

from tests.build import build_geometry, build_image, build_mask, write_dicom_series, write_nifti
from tests.training.trees import write_table
from training.arrays import read_record
from training.config import ConfigError
from training.readers.check import check_files
from training.readers.manifest import read_manifest

COLUMNS = ["case", "patient", "site", "image.ct", "image.pet", "mask", "roi", "label.stage", "label.grade"]


@pytest.fixture
def volumes(tmp_path):
    geometry = build_geometry()
    for name in ("ct", "pet"):
        write_nifti(tmp_path / f"{name}.nii", build_image(geometry))
    write_nifti(tmp_path / "mask.nii", build_mask(geometry))
    write_dicom_series(tmp_path / "series", build_image(geometry))
    return tmp_path


def kinds(findings):
    return Counter((finding.case_id, finding.kind) for finding in findings)


def test_a_manifest_names_files_folders_and_classes(volumes):
    rows = [
        ("a", "p1", "here", "ct.nii", "pet.nii", "mask.nii", "1", "I", "high"),
        ("b", "p1", "there", "series", "pet.nii", "mask.nii", "", "II", "low"),
    ]
    table = write_table(volumes / "cases.csv", COLUMNS, rows)
    index, findings = read_manifest(table)
    assert (index, findings) == read_manifest(volumes)
    assert not findings
    assert not list(check_files(index))
    first, second = index.records
    assert (first.patient_id, first.site, first.roi, first.labels) == (
        "p1",
        "here",
        "1",
        {"stage": "I", "grade": "high"},
    )
    assert second.roi is None
    assert len(second.images["ct"]) == build_geometry().shape[2]
    assert set(read_record(second, ["ct", "pet"]).images) == {"ct", "pet"}


def test_patient_and_site_default_to_the_case_and_the_file(volumes):
    table = write_table(volumes / "mine.csv", ["case", "image", "mask"], [("a", "ct.nii", "mask.nii")])
    index, findings = read_manifest(table)
    assert not findings
    (record,) = index.records
    assert (record.patient_id, record.site, list(record.images), dict(record.labels)) == ("a", "mine", ["image"], {})


def test_what_is_missing_or_odd_is_told_and_the_rest_is_read(volumes):
    columns = ["case", "image.ct", "image.pet", "mask", "label.stage", "colour"]
    rows = [
        ("a", "ct.nii", "", "mask.nii", "I", "red"),
        ("a", "ct.nii", "pet.nii", "mask.nii", "I", "red"),
        ("b", "gone.nii", "pet.nii", "mask.nii", "NA", "red"),
        ("c", "ct.nii", "pet.nii", "", "", "red"),
        ("", "", "", "mask.nii", "I", "red"),
    ]
    index, findings = read_manifest(write_table(volumes / "cases.csv", columns, rows))
    assert [record.case_id for record in index.records] == ["a"]
    assert kinds(findings) == {
        ("cases", "unknown-column"): 1,
        ("a", "missing-sequence"): 1,
        ("a", "duplicate-case"): 1,
        ("b", "missing-image"): 1,
        ("b", "missing-label"): 1,
        ("c", "missing-mask"): 1,
        ("c", "missing-label"): 1,
        ("line 6", "missing-image"): 1,
        ("line 6", "missing-sequence"): 2,
    }


def test_a_label_that_the_mask_lacks_is_told(volumes):
    rows = [("a", "ct.nii", "mask.nii", "7"), ("b", "ct.nii", "mask.nii", "whole")]
    index, _ = read_manifest(write_table(volumes / "cases.csv", ["case", "image", "mask", "roi"], rows))
    assert kinds(check_files(index)) == {("a", "unknown-roi"): 1}


@pytest.mark.parametrize(
    ("columns", "named"), [(["case", "image"], "mask"), (["image", "mask"], "case"), (["case", "mask"], "image")]
)
def test_a_manifest_without_a_needed_column_is_refused_by_its_name(tmp_path, columns, named):
    table = write_table(tmp_path / "cases.csv", columns, [["x"] * len(columns)])
    with pytest.raises(ConfigError, match=f"no column '?{named}"):
        read_manifest(table)


def test_a_manifest_that_is_not_text_is_refused(tmp_path):
    (tmp_path / "cases.csv").write_bytes(b"\xff\xfe\x00case")
    with pytest.raises(ConfigError, match=r"cases\.csv"):
        read_manifest(tmp_path)
