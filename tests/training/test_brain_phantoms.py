from functools import cache

import numpy as np
import pytest

from service.imaging.guard import Limits
from service.imaging.reader import read_case
from training import brain_phantoms
from training.brain_phantoms import LABELS, write_brats_tree
from training.readers.brats import read_brats

make_glioma = cache(brain_phantoms.make_glioma)


def test_equal_seeds_give_equal_cases_and_both_grades_occur():
    first, again = make_glioma(3), brain_phantoms.make_glioma(3)
    assert all(np.array_equal(first.images[name], again.images[name]) for name in first.images)
    grades = [make_glioma(seed).grade for seed in range(10)]
    assert grades.count("HGG") > grades.count("LGG") > 0


def test_only_high_grades_take_up_contrast_in_the_ring():
    uptake = {"HGG": [], "LGG": []}
    for seed in range(10):
        glioma = make_glioma(seed)
        ring = glioma.segmentation == LABELS["ring"]
        brain = (glioma.segmentation == 0) & (glioma.images["t1"] > 0)
        relative = [glioma.images[name][ring].mean() / glioma.images[name][brain].mean() for name in ("t1ce", "t1")]
        uptake[glioma.grade].append(relative[0] / relative[1])
    assert min(uptake["HGG"]) > max(uptake["LGG"])


def test_outside_of_the_brain_every_channel_is_zero_and_inside_none_is():
    images = make_glioma(1).images
    brain = images["t1"] > 0
    assert 0.2 < brain.mean() < 0.8
    assert all(np.array_equal(voxels > 0, brain) for voxels in images.values())


def test_tree_is_read_as_brats_with_nothing_missing(tmp_path):
    write_brats_tree(tmp_path, 4, first_seed=10)
    index, findings = read_brats(tmp_path)
    assert not findings
    assert [record.labels["grade"] for record in index.records] == [
        make_glioma(int(record.case_id.split("_")[2])).grade for record in index.records
    ]
    limits = Limits(decoded_bytes=2**28, voxels=2**26, files=8)
    record = index.records[0]
    case = read_case(record.case_files(), roi="all", resample_mask=False, limits=limits, case_id=record.case_id)
    assert set(case.images) == {"t1", "t1ce", "t2", "flair"}
    seed = int(record.case_id.split("_")[2])
    assert sum(mask.count for mask in case.masks) == (make_glioma(seed).segmentation > 0).sum()


def test_folder_that_holds_the_cases_already_is_left_alone(tmp_path):
    write_brats_tree(tmp_path, 1)
    with pytest.raises(FileExistsError):
        write_brats_tree(tmp_path, 1)
