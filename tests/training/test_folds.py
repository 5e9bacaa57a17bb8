import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.folds import assign_folds, share_of_labels, skew, volume_tertiles


def cohort(seed=0, patients=240):
    """Two collections: nodules, several a patient, benign or malignant; tumours, one a patient, of four stages."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 5, patients)
    names = np.concatenate([np.repeat(np.arange(patients), counts), 1000 + np.arange(160)]).astype(str)
    nodules = counts.sum()
    malignancy = np.concatenate([rng.choice(["benign", "malignant"], nodules, p=[0.66, 0.34]), np.full(160, "")])
    stage = np.concatenate([np.full(nodules, ""), rng.choice(["I", "II", "III"], 160, p=[0.3, 0.2, 0.5])])
    sites = np.where(malignancy == "", rng.choice(["l1", "l2"], len(names)), "lidc")
    return names, sites, {"malignancy": malignancy, "stage": stage}


@given(seed=st.integers(0, 10_000))
def test_no_patient_straddles_the_folds(seed):
    patients, sites, labels = cohort(seed % 7)
    folds = assign_folds(patients, sites, labels, 5, seed)
    for patient in np.unique(patients):
        assert len(np.unique(folds[patients == patient])) == 1


@pytest.mark.parametrize("seed", range(5))
def test_every_fold_has_its_share_of_every_class_and_site(seed):
    patients, sites, labels = cohort()
    folds = assign_folds(patients, sites, labels, 5, seed)
    assert set(folds) == set(range(5))
    for column in (sites, *labels.values()):
        for value in set(column) - {""}:
            counts = np.bincount(folds[column == value], minlength=5)
            assert counts.min() > 0.6 * counts.mean()
            assert counts.max() < 1.4 * counts.mean()


def test_seeds_give_other_folds_and_the_same_seed_the_same():
    patients, sites, labels = cohort()
    first, again, other = (assign_folds(patients, sites, labels, 5, seed) for seed in (1, 1, 2))
    assert (first == again).all()
    assert 0.1 < (first == other).mean() < 0.35


def test_folds_do_not_depend_on_the_order_of_targets_that_nobody_has():
    patients, sites, labels = cohort()
    nothing = labels | {"grade": np.full(len(patients), "")}
    assert (assign_folds(patients, sites, labels, 5, 3) == assign_folds(patients, sites, nothing, 5, 3)).all()


@pytest.mark.parametrize("share", [1.0, 0.5, 0.1])
def test_a_share_of_the_labels_is_a_share_of_every_class(share):
    _, _, labels = cohort()
    rows = np.flatnonzero(labels["stage"] != "")
    kept = share_of_labels(labels["stage"], rows, share, seed=2)
    assert set(kept) <= set(rows)
    for name in ("I", "II", "III"):
        had = (labels["stage"][rows] == name).sum()
        assert (labels["stage"][kept] == name).sum() == max(2, round(share * had))


def test_smaller_shares_and_skews_are_part_of_larger_ones():
    _, _, labels = cohort()
    rows = np.flatnonzero(labels["malignancy"] != "")
    half, tenth = (share_of_labels(labels["malignancy"], rows, share, seed=2) for share in (0.5, 0.1))
    assert set(tenth) < set(half)
    ten, five = (skew(labels["malignancy"], rows, "malignant", share, seed=2) for share in (0.10, 0.05))
    assert set(five) < set(ten) < set(rows)


@pytest.mark.parametrize("share", [0.10, 0.05])
def test_a_skewed_cohort_has_that_share_of_the_minority_and_everything_else(share):
    _, _, labels = cohort()
    rows = np.arange(len(labels["malignancy"]))
    kept = skew(labels["malignancy"], rows, "malignant", share, seed=0)
    rated = labels["malignancy"][kept]
    rated = rated[rated != ""]
    assert (rated == "malignant").mean() == pytest.approx(share, abs=0.003)
    assert (labels["malignancy"][kept] != "malignant").sum() == (labels["malignancy"] != "malignant").sum()


def test_tertiles_are_three_equal_parts_by_volume():
    volumes = np.random.default_rng(0).random(300)
    tertiles = volume_tertiles(volumes)
    assert np.bincount(tertiles).tolist() == [100, 100, 100]
    assert volumes[tertiles == 0].max() < volumes[tertiles == 1].min()
