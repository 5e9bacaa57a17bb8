"""The three collections at hand: on small trees in their layout, and as they are where they lie."""

import shutil
from collections import Counter

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.build import build_geometry, build_image, build_mask, write_nifti, write_nifti_array
from tests.real_data import real_data
from tests.training.trees import write_table
from training.arrays import read_record
from training.cli import app
from training.config import ConfigError
from training.readers.catalogue import NAMES, read_collection
from training.readers.check import check_files
from training.readers.lgg_mri import read_lgg_mri
from training.readers.lidc import read_lidc
from training.readers.nsclc_tnm import read_nsclc_tnm


def kinds(findings):
    return Counter((finding.case_id, finding.kind) for finding in findings)


@pytest.fixture
def nodules(tmp_path):
    rows = [("P-1", "P-1_R_1.nii.gz", 1, 5), ("P-1", "P-1_R_2.nii.gz", 0, 2), ("P-2", "P-2_R_1.nii.gz", 0, 1)]
    write_table(tmp_path / "labels.csv", ["patient_id", "file", "Diagnosis_value", "Malignancy_value"], rows)
    for folder, volume in (("image", build_image()), ("nodule_mask", build_mask())):
        (tmp_path / folder).mkdir()
        for row in rows:
            write_nifti(tmp_path / folder / row[1], volume, compressed=True)
    return tmp_path


def test_nodules_keep_their_patients_and_their_rating(nodules):
    index, findings = read_lidc(nodules)
    assert not findings
    told = [(r.case_id, r.patient_id, r.labels["malignancy"], r.covariates["rating"]) for r in index.records]
    assert told == [
        ("P-1_R_1", "P-1", "malignant", "5"),
        ("P-1_R_2", "P-1", "benign", "2"),
        ("P-2_R_1", "P-2", "benign", "1"),
    ]


def test_missing_nodules_are_told(nodules):
    (nodules / "image" / "P-1_R_1.nii.gz").unlink()
    (nodules / "nodule_mask" / "P-2_R_1.nii.gz").unlink()
    shutil.copyfile(nodules / "image" / "P-1_R_2.nii.gz", nodules / "image" / "P-9_R_1.nii.gz")
    index, findings = read_lidc(nodules)
    assert [record.case_id for record in index.records] == ["P-1_R_2"]
    assert kinds(findings) == {
        ("P-1_R_1", "missing-image"): 1,
        ("P-2_R_1", "missing-mask"): 1,
        ("P-9_R_1", "missing-label"): 1,
    }


def test_tumours_with_tnm_keep_their_source_and_stage(tmp_path):
    rows = [(7, "l1", 4, "IIIb"), (12, "l2", 1, "I"), (12, "l2", 1, "I"), (13, "l2", 1, "")]
    write_table(tmp_path / "labels.csv", ["PatientID", "SourceDataset", "Tstage", "stage_from_TN"], rows)
    (tmp_path / "crops").mkdir()
    geometry = build_geometry()
    for number in ("007", "012", "013", "020"):
        write_nifti(tmp_path / "crops" / f"{number}_ct.nii.gz", build_image(geometry), compressed=True)
        mask = np.zeros(geometry.shape, np.uint8) if number == "013" else build_mask(geometry).voxels.astype(np.uint8)
        write_nifti_array(tmp_path / "crops" / f"{number}_mask.nii.gz", mask, geometry.affine, compressed=True)
    (tmp_path / "crops" / "007_mask.nii.gz").unlink()
    index, findings = read_nsclc_tnm(tmp_path)
    assert [(r.case_id, r.site, dict(r.labels), r.covariates["t_stage"]) for r in index.records] == [
        ("nsclc-tnm-012", "l2", {"stage": "I"}, "1"),
        ("nsclc-tnm-013", "l2", {}, "1"),
    ]
    assert kinds([*findings, *check_files(index)]) == {
        ("nsclc-tnm-007", "missing-mask"): 1,
        ("nsclc-tnm-012", "duplicate-patient"): 1,
        ("nsclc-tnm-013", "missing-label"): 1,
        ("nsclc-tnm-013", "empty-roi"): 1,
        ("nsclc-tnm-020", "missing-label"): 1,
    }


def test_stacks_without_spacing_become_channels_on_a_unit_grid(tmp_path):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (5, 9, 7, 3), np.uint8)
    mask = np.zeros((5, 9, 7), np.uint8)
    mask[1:4, 2:6, 3:5] = 1
    (tmp_path / "volumes").mkdir()
    np.savez(tmp_path / "volumes" / "TCGA_DU_0001.npz", image=image, mask=mask)
    np.savez(tmp_path / "volumes" / "TCGA_DU_0002.npz", image=image, mask=mask)
    rows = [("TCGA_DU_0001", "G3", "True", "False"), ("TCGA_DU_0003", "G2", "False", "False")]
    write_table(tmp_path / "labels.csv", ["Patient", "grade", "pre_missing", "post_missing"], rows)
    index, findings = read_lgg_mri(tmp_path, tmp_path / "cache")
    (record,) = index.records
    assert (record.site, record.labels) == ("DU", {"grade": "G3"})
    case = read_record(record, ["t1", "flair", "t1ce"])
    assert case.geometry.spacing_mm == (1.0, 1.0, 1.0)
    for position, channel in enumerate(("t1", "flair", "t1ce")):
        assert np.array_equal(case.images[channel].voxels, image[..., position].T)
    assert np.array_equal(case.masks[0].voxels, mask.T == 1)
    assert kinds(findings) == {
        ("TCGA_DU_0001", "missing-sequence"): 1,
        ("TCGA_DU_0003", "missing-image"): 1,
        ("TCGA_DU_0002", "missing-label"): 1,
    }


def test_converted_volumes_are_written_once(tmp_path):
    (tmp_path / "volumes").mkdir()
    np.savez(tmp_path / "volumes" / "P.npz", image=np.zeros((3, 4, 5, 3), np.uint8), mask=np.ones((3, 4, 5), np.uint8))
    columns = ["Patient", "grade", "pre_missing", "post_missing"]
    write_table(tmp_path / "labels.csv", columns, [("P", "G2", "False", "False")])
    times = []
    for _ in range(2):
        index, _ = read_lgg_mri(tmp_path, tmp_path / "cache")
        times.append([path.stat().st_mtime_ns for path in index.records[0].files])
    assert times[0] == times[1]


def test_the_check_command_lists_what_is_odd(nodules):
    result = CliRunner().invoke(app, ["check", "lidc", str(nodules)])
    assert result.exit_code == 0, result.output
    assert "lidc: 3 cases of 2 patients from 1 sites" in result.stdout
    assert "malignancy: benign 2, malignant 1, unlabelled 0" in result.stdout
    assert "nothing is missing or odd" in result.stdout
    geometry = build_geometry()
    for name in ("P-1_R_2.nii.gz", "P-2_R_1.nii.gz"):
        empty = np.zeros(geometry.shape, np.uint8)
        write_nifti_array(nodules / "nodule_mask" / name, empty, geometry.affine, compressed=True)
    result = CliRunner().invoke(app, ["check", "lidc", str(nodules)])
    assert result.exit_code == 1
    assert "empty-roi: 2" in result.stdout
    assert "P-2_R_1: " in result.stdout
    quick = CliRunner().invoke(app, ["check", "lidc", str(nodules), "--quick"])
    assert quick.exit_code == 0


def test_the_check_command_refuses_what_is_no_such_collection(tmp_path):
    for reader in NAMES:
        result = CliRunner().invoke(app, ["check", reader, str(tmp_path)])
        assert result.exit_code == 2, reader
        assert str(tmp_path) not in result.stderr
    missing = CliRunner().invoke(app, ["check", "lidc", str(tmp_path / "gone")])
    assert (missing.exit_code, missing.stderr) == (2, "gone is not there\n")


def test_an_unknown_reader_is_refused_by_name(tmp_path):
    with pytest.raises(ConfigError, match="'kits'"):
        read_collection("kits", tmp_path, tmp_path)


@pytest.mark.real
def test_the_real_nodules_are_801_of_440_patients():
    index, findings = read_lidc(real_data("lidc_nodules"))
    assert not findings
    assert len({record.patient_id for record in index.records}) == 440
    assert index.counts("malignancy") == {"benign": 526, "malignant": 275}
    assert not list(check_files(index))


@pytest.mark.real
def test_the_real_tumours_are_185_of_which_5_have_an_empty_mask():
    index, findings = read_nsclc_tnm(real_data("nsclc_ct_tnm"))
    assert not findings
    assert index.counts("stage") == {"I": 80, "II": 20, "IIIa": 36, "IIIb": 49}
    assert Counter(record.site for record in index.records) == {"l1": 119, "l2": 66}
    assert Counter(finding.kind for finding in check_files(index)) == {"empty-roi": 5}


@pytest.mark.real
def test_the_real_gliomas_are_24(tmp_path):
    index, findings = read_lgg_mri(real_data("lgg_mri_grade"), tmp_path)
    assert index.counts("grade") == {"G2": 12, "G3": 12}
    assert Counter(finding.kind for finding in findings) == {"missing-sequence": 3}
    assert not list(check_files(index))
