from collections import Counter

import numpy as np
import pytest

from service.errors import UnreadableImage
from service.imaging.reader import read_image
from tests.real_data import real_data
from tests.training.trees import (
    lung,
    name_segments,
    save_dicom,
    write_lung1_dicom,
    write_lung1_nifti,
    write_lung1_table,
)
from training.arrays import LIMITS, read_record
from training.config import ConfigError
from training.readers.check import check_files
from training.readers.lung1 import read_lung1

CLINICAL = "NSCLC Radiomics Lung1.clinical-version3-Oct 2019.csv"


def kinds(findings):
    return Counter((finding.case_id, finding.kind) for finding in findings)


def test_the_tree_of_tcia_is_read(tmp_path):
    root = tmp_path / "manifest-1603198545583"
    for patient in ("LUNG1-001", "LUNG1-002"):
        write_lung1_dicom(root / "NSCLC-Radiomics" / patient)
    (root / "metadata.csv").write_text("Series UID,Collection\n1.2.3,NSCLC-Radiomics\n")
    write_lung1_table(root / CLINICAL, [("LUNG1-001", 2, "IIIb"), ("LUNG1-002", 1, "I")])
    index, findings = read_lung1(root)
    assert not findings
    told = [(r.case_id, r.patient_id, r.roi, r.labels, r.covariates) for r in index.records]
    assert told == [
        ("LUNG1-001", "LUNG1-001", "GTV-1", {"stage": "IIIb"}, {"t_stage": "2"}),
        ("LUNG1-002", "LUNG1-002", "GTV-1", {"stage": "I"}, {"t_stage": "1"}),
    ]
    image = read_image(index.records[0].images["ct"], LIMITS)
    assert np.array_equal(image.voxels, lung()[0].voxels)
    assert image.geometry.matches(lung()[0].geometry)


def test_the_structure_named_gtv_is_the_region(tmp_path):
    write_lung1_dicom(tmp_path / "LUNG1-001", segmentation=True)
    index, findings = read_lung1(tmp_path)
    assert index.records[0].roi == "GTV-1"
    assert kinds([*findings, *check_files(index)]) == {("lung1", "missing-table"): 1}
    drawn, expected = read_record(index.records[0], ["ct"]).masks[0].voxels, lung()[1].voxels
    assert 2 * (drawn & expected).sum() / (drawn.sum() + expected.sum()) > 0.9


def test_a_dicom_mask_that_cannot_be_read_is_told_by_its_kind(tmp_path):
    write_lung1_dicom(tmp_path / "LUNG1-001", structures=False, segmentation=True)  # segments without any frame
    index, _ = read_lung1(tmp_path)
    assert index.records[0].roi == "Neoplasm, Primary"
    found = list(check_files(index))
    assert kinds(found) == {("LUNG1-001", "mask-unreadable"): 1}
    assert found[0].detail.startswith("DICOM SEG: ")
    with pytest.raises(UnreadableImage):
        read_record(index.records[0], ["ct"])


def test_a_series_with_a_missing_slice_is_told_as_such(tmp_path):
    write_lung1_dicom(tmp_path / "LUNG1-001")
    index, _ = read_lung1(tmp_path)
    index.records[0].images["ct"][5].unlink()
    index, _ = read_lung1(tmp_path)
    assert kinds(check_files(index)) == {("LUNG1-001", "irregular-series"): 1}


def test_nifti_is_read_from_one_folder_per_patient_and_from_one_for_all(tmp_path):
    write_lung1_nifti(tmp_path / "LUNG1-001" / "image.nii.gz", tmp_path / "LUNG1-001" / "GTV-1.nii.gz")
    write_lung1_nifti(tmp_path / "LUNG1-002_CT.nii.gz", tmp_path / "LUNG1-002_mask.nii.gz")
    write_lung1_table(tmp_path / "clinical.csv", [("LUNG1-001", 4, "IIIa"), ("LUNG1-002", 2, "II")])
    index, findings = read_lung1(tmp_path)
    assert not findings
    assert [record.labels["stage"] for record in index.records] == ["IIIa", "II"]
    assert not list(check_files(index))
    for record in index.records:
        case = read_record(record, ["ct"])
        assert np.array_equal(case.masks[0].voxels, lung()[1].voxels)


def test_what_is_missing_or_odd_is_told(tmp_path):
    write_lung1_dicom(tmp_path / "LUNG1-001", structures=False)
    write_lung1_nifti(tmp_path / "LUNG1-002" / "ct.nii.gz", tmp_path / "LUNG1-002" / "mask_a.nii.gz")
    write_lung1_nifti(tmp_path / "LUNG1-002" / "dose.nii.gz", tmp_path / "LUNG1-002" / "mask_b.nii.gz")
    write_lung1_dicom(tmp_path / "LUNG1-003")
    save_dicom(name_segments("Heart"), tmp_path / "LUNG1-003" / "study" / "3" / "1.dcm").rename(
        tmp_path / "LUNG1-003" / "09-18-2008-StudyID-NA-69331" / "3.000000-NA-78236" / "1-2.dcm"
    )
    write_lung1_nifti(tmp_path / "LUNG1-005_ct.nii.gz", tmp_path / "LUNG1-005_seg.nii.gz")
    write_lung1_table(
        tmp_path / "clinical.csv",
        [
            ("LUNG1-001", 2, "I"),
            ("LUNG1-002", 2, "NA"),
            ("LUNG1-003", 2, "I"),
            ("LUNG1-003", 2, "I"),
            ("LUNG1-004", 1, "I"),
        ],
    )
    index, findings = read_lung1(tmp_path)
    assert kinds(findings) == {
        ("LUNG1-001", "missing-mask"): 1,
        ("LUNG1-002", "several-masks"): 1,
        ("LUNG1-002", "unknown-file"): 1,
        ("LUNG1-002", "missing-label"): 1,
        ("LUNG1-003", "several-masks"): 1,
        ("LUNG1-003", "duplicate-patient"): 1,
        ("LUNG1-004", "label-without-image"): 1,
        ("LUNG1-005", "missing-label"): 1,
    }
    assert [record.case_id for record in index.records] == ["LUNG1-002", "LUNG1-003", "LUNG1-005"]


def test_files_that_are_no_dicom_are_passed_over_and_told(tmp_path):
    study = write_lung1_dicom(tmp_path / "LUNG1-001") / "09-18-2008-StudyID-NA-69331"
    structure = study / "3.000000-NA-78236" / "1-1.dcm"
    content = structure.read_bytes()
    structure.write_bytes(b"no DICOM at all")
    (study / "4").mkdir()
    (study / "4" / "1-1.dcm").write_bytes(content[:200])
    index, findings = read_lung1(tmp_path)
    assert len(index) == 0
    assert kinds(findings) == {
        ("LUNG1-001", "missing-mask"): 1,
        ("LUNG1-001", "unknown-series"): 1,
        ("lung1", "missing-table"): 1,
    }


def test_structures_without_a_tumour_are_told(tmp_path):
    write_lung1_dicom(tmp_path / "LUNG1-001", structures=False)
    save_dicom(name_segments("Heart", "Esophagus"), tmp_path / "LUNG1-001" / "study" / "seg" / "1.dcm")
    index, findings = read_lung1(tmp_path)
    assert len(index) == 0
    assert kinds(findings) == {("LUNG1-001", "unknown-roi"): 1, ("lung1", "missing-table"): 1}


def test_a_folder_without_any_patient_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="LUNG1-001"):
        read_lung1(tmp_path)


@pytest.mark.real
def test_the_real_clinical_table_gives_the_published_numbers_of_stages(tmp_path):
    table = real_data("tabular", "NSCLC_Radiomics_Lung1_clinical_v3_Oct2019.csv")
    (tmp_path / "clinical.csv").write_bytes(table.read_bytes())
    for number in range(1, 423):
        for part in ("ct", "mask"):
            (tmp_path / f"LUNG1-{number:03d}_{part}.nii.gz").touch()
    index, findings = read_lung1(tmp_path)
    assert index.counts("stage") == {"I": 93, "II": 40, "IIIa": 112, "IIIb": 176}
    assert Counter(finding.kind for finding in findings) == {"missing-label": 1}
