from collections import Counter

import numpy as np
import pytest

from tests.build import build_geometry, write_nifti_array
from tests.real_data import real_data
from tests.training.trees import SEQUENCES, write_glioma, write_name_mapping
from training.arrays import read_record
from training.cases import WHOLE
from training.config import ConfigError
from training.readers.brats import read_brats, read_name_mapping
from training.readers.check import check_files, check_patients


def listed_2019(grade, rest, tcga="NA"):
    return {
        "Grade": grade,
        "BraTS_2017_subject_ID": "NA",
        "BraTS_2018_subject_ID": f"Brats18_{rest}",
        "TCGA_TCIA_subject_ID": tcga,
        "BraTS_2019_subject_ID": f"BraTS19_{rest}",
    }


@pytest.fixture
def release_2019(tmp_path):
    root = tmp_path / "MICCAI_BraTS_2019_Data_Training"
    write_glioma(root / "HGG" / "BraTS19_CBICA_AAB_1", 1)
    write_glioma(root / "LGG" / "BraTS19_TCIA09_141_1", 2)
    mapping = [listed_2019("HGG", "CBICA_AAB_1"), listed_2019("LGG", "TCIA09_141_1", "TCGA-HT-A61A")]
    write_name_mapping(root / "name_mapping.csv", mapping)
    return root


def kinds(findings):
    return Counter((finding.case_id, finding.kind) for finding in findings)


def test_the_2018_layout_gives_grades_by_folder(tmp_path):
    write_glioma(tmp_path / "HGG" / "Brats18_CBICA_AAB_1", 1)
    write_glioma(tmp_path / "LGG" / "Brats18_2013_0_1", 2)
    index, findings = read_brats(tmp_path)
    assert not findings
    told = {r.case_id: (r.patient_id, r.site, r.labels["grade"], r.roi) for r in index.records}
    assert told == {
        "Brats18_CBICA_AAB_1": ("CBICA_AAB", "CBICA", "HGG", WHOLE),
        "Brats18_2013_0_1": ("2013_0", "2013", "LGG", WHOLE),
    }


def test_the_2019_layout_gives_grades_and_patients_by_the_name_mapping(release_2019):
    index, findings = read_brats(release_2019.parent)
    assert not findings
    assert not list(check_files(index))
    hgg, lgg = index.records
    assert (hgg.case_id, hgg.patient_id, hgg.site, hgg.labels) == (
        "BraTS19_CBICA_AAB_1",
        "CBICA_AAB",
        "CBICA",
        {"grade": "HGG"},
    )
    assert (lgg.patient_id, lgg.site, lgg.labels) == ("TCGA-HT-A61A", "TCIA09", {"grade": "LGG"})
    assert hgg.images["t1ce"][0].name == "BraTS19_CBICA_AAB_1_t1ce.nii.gz"
    assert set(hgg.images) == set(SEQUENCES)


def test_the_2020_layout_is_read_without_grades_in_folders(tmp_path):
    root = tmp_path / "MICCAI_BraTS2020_TrainingData"
    for number in (1, 2):
        write_glioma(root / f"BraTS20_Training_{number:03d}", number, ".nii")
    write_glioma(tmp_path / "MICCAI_BraTS2020_ValidationData" / "BraTS20_Validation_001", 3, ".nii")
    rows = [listed_2019("HGG", "TCIA01_147_1"), listed_2019("LGG", "")]
    rows[1] |= {"BraTS_2018_subject_ID": "NA", "BraTS_2019_subject_ID": "NA"}
    rows = [row | {"BraTS_2020_subject_ID": f"BraTS20_Training_{n:03d}"} for n, row in enumerate(rows, start=1)]
    write_name_mapping(root / "name_mapping.csv", rows)
    index, findings = read_brats(tmp_path)
    assert not findings
    told = [(r.case_id, r.patient_id, r.site, r.labels["grade"]) for r in index.records]
    assert told == [
        ("BraTS20_Training_001", "TCIA01_147", "TCIA01", "HGG"),
        ("BraTS20_Training_002", "BraTS20_Training_002", "unknown", "LGG"),
    ]


def test_releases_are_never_pooled(release_2019, tmp_path):
    later = write_glioma(tmp_path / "2020" / "BraTS20_Training_001", 1, ".nii")
    row = listed_2019("HGG", "CBICA_AAB_1") | {"BraTS_2020_subject_ID": later.name}
    write_name_mapping(later.parent / "name_mapping.csv", [row])
    index, findings = read_brats(tmp_path)
    assert [record.case_id for record in index.records] == ["BraTS20_Training_001"]
    assert kinds(findings) == {("brats", "pooled-releases"): 1}
    assert "2 cases of BraTS 2019" in findings[0].detail


def test_the_region_is_the_whole_tumour_even_where_a_label_has_one_voxel(release_2019):
    index, _ = read_brats(release_2019)
    case = read_record(index.records[0], ["flair", "t1"])
    assert list(case.images) == ["flair", "t1"]
    (mask,) = case.masks
    labels = case.images["flair"].geometry.shape
    assert mask.voxels.shape == labels
    assert mask.count > 100


def test_what_is_missing_or_odd_is_told(release_2019):
    hgg = release_2019 / "HGG" / "BraTS19_CBICA_AAB_1"
    (hgg / f"{hgg.name}_t2.nii.gz").unlink()
    lgg = release_2019 / "LGG" / "BraTS19_TCIA09_141_1"
    (lgg / f"{lgg.name}_seg.nii.gz").rename(lgg / "W39_1998.09.19_Segm.nii.gz")
    write_glioma(release_2019 / "HGG" / "BraTS19_TMC_06290_1", 3)
    twin = write_glioma(release_2019 / "LGG" / "BraTS19_TMC_06290_2", 4)
    (twin / f"{twin.name}_seg.nii").write_bytes(b"")
    rows = [listed_2019("LGG", "CBICA_AAB_1"), listed_2019("LGG", "TCIA09_141_1"), listed_2019("HGG", "CBICA_GONE_1")]
    write_name_mapping(release_2019 / "name_mapping.csv", rows)
    index, findings = read_brats(release_2019)
    findings += check_patients(index)
    assert kinds(findings) == {
        ("BraTS19_CBICA_AAB_1", "missing-sequence"): 1,
        ("BraTS19_CBICA_AAB_1", "label-mismatch"): 1,
        ("BraTS19_TCIA09_141_1", "missing-mask"): 1,
        ("BraTS19_TCIA09_141_1", "unknown-file"): 1,
        ("BraTS19_TMC_06290_2", "several-masks"): 1,
        ("BraTS19_TMC_06290_2", "duplicate-patient"): 1,
        ("BraTS19_CBICA_GONE_1", "label-without-image"): 1,
    }
    assert lgg.name not in [record.case_id for record in index.records]
    assert not any("1998" in finding.detail for finding in findings)


def test_files_that_do_not_fit_together_are_told_from_their_headers(release_2019):
    hgg = release_2019 / "HGG" / "BraTS19_CBICA_AAB_1"
    other = build_geometry(shape=(8, 8, 8), spacing_mm=(1, 1, 1))
    write_nifti_array(hgg / f"{hgg.name}_t2.nii.gz", np.zeros(other.shape, np.int16), other.affine, compressed=True)
    lgg = release_2019 / "LGG" / "BraTS19_TCIA09_141_1"
    index, _ = read_brats(release_2019)
    grid = read_record(index.records[1], ["t1"]).geometry
    write_nifti_array(lgg / f"{lgg.name}_seg.nii.gz", np.zeros(grid.shape, np.uint8), grid.affine, compressed=True)
    found = list(check_files(index))
    assert kinds(found) == {(hgg.name, "grid-mismatch"): 1, (lgg.name, "empty-roi"): 1}
    assert "t2: 8 x 8 x 8 voxels of 1 x 1 x 1 mm" in found[0].detail


def test_a_mask_whose_axes_are_stored_otherwise_lies_on_the_same_grid(release_2019):
    hgg = release_2019 / "HGG" / "BraTS19_CBICA_AAB_1"
    index, _ = read_brats(release_2019)
    case = read_record(index.records[0], ["t1"])
    turned, affine = case.masks[0].voxels[::-1].astype(np.uint8), case.geometry.affine.copy()
    affine[:3, 3] += (turned.shape[0] - 1) * affine[:3, 0]
    affine[:3, 0] *= -1
    write_nifti_array(hgg / f"{hgg.name}_seg.nii.gz", turned, affine, compressed=True)
    assert not list(check_files(index))
    assert np.array_equal(read_record(index.records[0], ["t1"]).masks[0].voxels, case.masks[0].voxels)


def test_a_folder_without_any_case_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="BraTS20_Training_001"):
        read_brats(tmp_path)


@pytest.mark.real
def test_the_real_name_mapping_of_2019_has_259_hgg_and_76_lgg():
    mapping = read_name_mapping(real_data("tabular", "brats2019_name_mapping.csv"))
    of_2019 = {name: mapped for name, mapped in mapping.items() if name.startswith("BraTS19")}
    assert Counter(mapped.grade for mapped in of_2019.values()) == {"HGG": 259, "LGG": 76}
    assert len({mapped.patient_id for mapped in of_2019.values()}) == 335
    assert mapping["BraTS19_CBICA_AAB_1"].site == "CBICA"
    assert mapping["Brats18_CBICA_AAB_1"] == mapping["BraTS19_CBICA_AAB_1"]
