import os
import time
from dataclasses import replace
from multiprocessing import get_context

import numpy as np
import pytest

from service.bundle import channel_prefix
from service.features.radiomics import compute_radiomics
from service.imaging.preprocess import cut_crop
from service.imaging.reader import read_case
from service.manifest import Preprocessing, Window
from service.radiomics_settings import PRESETS
from tests.build import write_nifti, write_nifti_array
from tests.real_data import real_data
from tests.training.trees import tumour_labels, write_glioma
from training.arrays import LIMITS, CaseArrays, Recipe, build_arrays, read_record
from training.cases import WHOLE, CaseIndex, CaseRecord
from training.layouts import SMALL
from training.phantoms import make_phantom
from training.readers.brats import read_brats
from training.readers.lidc import read_lidc

PREPROCESSING = Preprocessing(
    crop_voxels=16,
    extent="roi",
    extent_mm=14.0,
    roi_scale=1.5,
    windows={"ct": Window(low=-1000, high=400)},
    mask_channel=True,
)
RECIPE = Recipe(("ct",), PREPROCESSING, "original")


def write_case(folder, seed, **changes):
    folder.mkdir(parents=True, exist_ok=True)
    phantom = make_phantom(seed, layout=SMALL)
    image, mask = folder / f"{seed}_ct.nii.gz", folder / f"{seed}_mask.nii.gz"
    write_nifti(image, phantom.image, compressed=True)
    write_nifti(mask, phantom.mask, compressed=True)
    labels = {"kind": phantom.kind} if seed % 2 else {}
    record = CaseRecord(f"case-{seed}", f"patient-{seed // 2}", "here", {"ct": (image,)}, (mask,), None, labels)
    return replace(record, **changes)


@pytest.fixture
def index(tmp_path):
    records = [write_case(tmp_path / "data", seed) for seed in range(4)]
    return CaseIndex("drawn", (*records[:3], replace(records[3], covariates={"t_stage": "2"})))


def empty_mask(record):
    geometry = make_phantom(int(record.case_id[5:]), layout=SMALL).mask.geometry
    write_nifti_array(record.mask[0], np.zeros(geometry.shape, np.uint8), geometry.affine, compressed=True)


def test_rows_are_what_the_service_computes_bit_for_bit(index, tmp_path):
    arrays, findings = build_arrays(index, RECIPE, tmp_path / "cache")
    assert not findings
    assert isinstance(arrays.crops, np.memmap)
    assert arrays.crops.shape == (4, 2, 16, 16, 16)
    assert arrays.crops.dtype == np.float32
    assert arrays.feature_names == PRESETS["original"].feature_names()
    for row, record in enumerate(index.records):
        files = record.case_files()
        case = read_case(files, roi=None, resample_mask=False, limits=LIMITS, case_id=None)
        assert np.array_equal(arrays.crops[row], cut_crop(case.images, case.masks[0], ["ct"], PREPROCESSING))
        radiomics = compute_radiomics(case.images["ct"], case.masks[0], PRESETS["original"])
        assert np.array_equal(arrays.radiomics[row], radiomics.values, equal_nan=True)
        assert arrays.volumes_mm3[row] == case.masks[0].volume_mm3


def test_columns_tell_whose_the_rows_are(index, tmp_path):
    arrays, _ = build_arrays(index, RECIPE, tmp_path / "cache")
    assert arrays.case_ids.tolist() == [f"case-{seed}" for seed in range(4)]
    assert arrays.patient_ids.tolist() == ["patient-0", "patient-0", "patient-1", "patient-1"]
    assert set(arrays.sites) == {"here"}
    assert arrays.labels["kind"].tolist() == ["", index.records[1].labels["kind"], "", index.records[3].labels["kind"]]
    assert arrays.covariates["t_stage"].tolist() == ["", "", "", "2"]


def test_a_second_build_takes_the_cache_and_new_labels(index, tmp_path):
    cache = tmp_path / "cache"
    first, _ = build_arrays(index, RECIPE, cache)
    (folder,) = cache.iterdir()
    made = (folder / "crops.npy").stat().st_mtime_ns
    relabelled = CaseIndex(index.name, tuple(replace(one, labels={"other": "x"}) for one in index.records))
    second, _ = build_arrays(relabelled, RECIPE, cache)
    assert [path.name for path in cache.iterdir()] == [folder.name]
    assert (folder / "crops.npy").stat().st_mtime_ns == made
    assert np.array_equal(first.crops, second.crops)
    assert list(second.labels) == ["other"]


def touch(index):
    path = index.records[0].mask[0]
    os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns + 1))
    return index, RECIPE


def other_roi(index):
    records = tuple(replace(one, roi=WHOLE) for one in index.records)
    return CaseIndex(index.name, records), RECIPE


def other_crops(index):
    return index, replace(RECIPE, preprocessing=PREPROCESSING.model_copy(update={"crop_voxels": 8}))


@pytest.mark.parametrize("change", [touch, other_roi, other_crops])
def test_a_changed_file_region_or_recipe_is_computed_anew(index, tmp_path, change):
    index = CaseIndex(index.name, index.records[:1])
    build_arrays(index, RECIPE, tmp_path / "cache")
    build_arrays(*change(index), tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_a_build_that_was_killed_leaves_nothing_that_looks_complete(index, tmp_path):
    cache = tmp_path / "cache"
    building = get_context("spawn").Process(target=build_arrays, args=(index, RECIPE, cache))
    building.start()
    deadline = time.monotonic() + 120
    while not list(cache.glob(".drawn-*/*/crops.npy")):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    building.kill()
    building.join()
    assert not list(cache.glob("drawn-*"))
    arrays, findings = build_arrays(index, RECIPE, cache)
    assert not findings
    assert all(crop.any() for crop in arrays.crops)


def test_unusable_cases_become_findings_and_the_others_keep_their_rows(index, tmp_path):
    whole, _ = build_arrays(index, RECIPE, tmp_path / "cache")
    empty_mask(index.records[0])
    index.records[2].images["ct"][0].write_bytes(b"no image")
    for _ in range(2):  # computed, then cached
        arrays, findings = build_arrays(index, RECIPE, tmp_path / "cache")
        assert [(one.case_id, one.kind) for one in findings] == [
            ("case-0", "empty-roi"),
            ("case-2", "unreadable-image"),
        ]
        assert arrays.case_ids.tolist() == ["case-1", "case-3"]
        assert np.array_equal(arrays.crops, whole.crops[[1, 3]])
        assert np.array_equal(arrays.radiomics, whole.radiomics[[1, 3]], equal_nan=True)


def test_a_case_without_a_needed_channel_or_file_becomes_a_finding(index, tmp_path):
    first, second, third, _ = index.records
    gone = (tmp_path / "gone.nii",)
    records = (replace(first, images={"pet": first.images["ct"]}), replace(second, mask=gone), third)
    arrays, findings = build_arrays(CaseIndex("drawn", records), RECIPE, tmp_path / "cache")
    assert [(one.case_id, one.kind) for one in findings] == [("case-0", "unfit-case"), ("case-1", "missing-file")]
    assert not any(str(tmp_path) in one.detail for one in findings)
    assert arrays.case_ids.tolist() == ["case-2"]


def test_a_collection_of_unusable_cases_gives_no_rows(index, tmp_path):
    empty_mask(index.records[0])
    arrays, findings = build_arrays(CaseIndex("drawn", index.records[:1]), RECIPE, tmp_path / "cache")
    assert arrays.crops.shape == (0, 2, 16, 16, 16)
    assert arrays.radiomics.shape == (0, len(RECIPE.feature_names))
    assert len(findings) == 1


def test_processes_share_the_work_in_the_same_order(index, tmp_path):
    alone, _ = build_arrays(index, RECIPE, tmp_path / "one", processes=1)
    shared, _ = build_arrays(index, RECIPE, tmp_path / "two", processes=2)
    assert np.array_equal(alone.crops, shared.crops)
    assert np.array_equal(alone.radiomics, shared.radiomics, equal_nan=True)
    assert alone.case_ids.tolist() == shared.case_ids.tolist()


def test_several_channels_are_described_one_after_the_other(tmp_path):
    write_glioma(tmp_path / "HGG" / "Brats18_CBICA_AAB_1", 1)
    index, _ = read_brats(tmp_path)
    channels = ("flair", "t1ce")
    windows = {channel: Window(low=0, high=2000) for channel in channels}
    recipe = Recipe(channels, PREPROCESSING.model_copy(update={"windows": windows}), "original")
    arrays, findings = build_arrays(index, recipe, tmp_path / "cache")
    assert not findings
    assert arrays.crops.shape == (1, 3, 16, 16, 16)
    case = read_record(index.records[0], channels)
    whole = tumour_labels(make_phantom(1, layout=SMALL).mask) != 0
    assert case.masks[0].count == whole.sum()
    half = len(arrays.feature_names) // 2
    for channel, values in zip(channels, (arrays.radiomics[0, :half], arrays.radiomics[0, half:]), strict=True):
        expected = compute_radiomics(case.images[channel], case.masks[0], PRESETS["original"])
        assert np.array_equal(values, expected.values, equal_nan=True)
    assert arrays.feature_names[half].startswith(channel_prefix("t1ce", channels))


def test_rows_can_be_chosen_by_number_or_by_a_condition(index, tmp_path):
    arrays, _ = build_arrays(index, RECIPE, tmp_path / "cache")
    some = arrays.subset(np.array([2, 0]))
    assert some.case_ids.tolist() == ["case-2", "case-0"]
    assert np.array_equal(some.crops, arrays.crops[[2, 0]])
    assert np.array_equal(some.volumes_mm3, arrays.volumes_mm3[[2, 0]])
    labelled = arrays.subset(arrays.labels["kind"] != "")
    assert labelled.case_ids.tolist() == ["case-1", "case-3"]
    assert labelled.covariates["t_stage"].tolist() == ["", "2"]


def test_joined_collections_are_unlabelled_for_what_only_the_other_tells(index, tmp_path):
    first, _ = build_arrays(index, RECIPE, tmp_path / "cache")
    record = write_case(tmp_path / "more", 9, labels={"malignancy": "benign"}, site="there")
    second, _ = build_arrays(CaseIndex("more", (record,)), RECIPE, tmp_path / "cache")
    both = first.join(second)
    assert len(both) == 5
    assert both.labels["malignancy"].tolist() == ["", "", "", "", "benign"]
    assert both.labels["kind"].tolist() == [*first.labels["kind"], ""]
    assert both.covariates["t_stage"].tolist() == ["", "", "", "2", ""]
    assert both.sites.tolist() == ["here"] * 4 + ["there"]
    assert np.array_equal(both.crops[4], second.crops[0])
    assert np.array_equal(both.subset(np.arange(4)).radiomics, first.radiomics, equal_nan=True)


def test_collections_that_do_not_fit_together_are_not_joined(index, tmp_path):
    first, _ = build_arrays(index, RECIPE, tmp_path / "cache")
    with pytest.raises(ValueError, match="unique"):
        first.join(first)
    smaller, _ = build_arrays(*other_crops(index), tmp_path / "cache")
    with pytest.raises(ValueError, match="different crops"):
        first.join(smaller)


def test_columns_of_different_length_are_refused():
    names = np.array(["a", "b"])
    with pytest.raises(ValueError, match="rows"):
        CaseArrays(
            crops=np.zeros((2, 1, 8, 8, 8), np.float32),
            radiomics=np.zeros((2, 3)),
            feature_names=("x", "y", "z"),
            case_ids=names,
            patient_ids=names,
            sites=names[:1],
            volumes_mm3=np.ones(2),
            labels={},
        )


def test_an_index_holds_every_id_once(index):
    with pytest.raises(ValueError, match="unique"):
        CaseIndex("twice", (index.records[0], index.records[0]))


@pytest.mark.real
def test_real_nodules_become_rows(tmp_path):
    whole, _ = read_lidc(real_data("lidc_nodules"))
    index = CaseIndex(whole.name, whole.records[:20])
    arrays, findings = build_arrays(index, RECIPE, tmp_path)
    assert not findings
    assert len(arrays) == 20
    assert np.isfinite(arrays.crops).all()
    assert arrays.volumes_mm3.min() > 0
    names = list(arrays.feature_names)
    assert np.allclose(arrays.radiomics[:, names.index("original_shape_VoxelVolume")], arrays.volumes_mm3)
