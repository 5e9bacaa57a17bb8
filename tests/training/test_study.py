import time
import tomllib
from multiprocessing import get_context
from pathlib import Path

import nibabel
import numpy as np
import pytest

from tests.build import write_nifti_array
from tests.training.trees import write_glioma
from training.arrays import CaseArrays
from training.config import ConfigError
from training.metrics import Predictions, balanced_accuracy, macro_auc
from training.study import Bench, Split, Store, expected_files, plan_units, run_study
from training.study_cases import StudyCases, build_cases, open_cases
from training.study_config import METHODS, StudyConfig, read_study
from training.study_heads import Column, clean, labelled, predict_blocks, predict_references

CONFIGS = Path(__file__).parents[2] / "training" / "configs"
FILE = Path(__file__).with_name("tiny_study.toml")
CONFIG = read_study(FILE)
MAIN = "logistic-weighted"


def made(count=240, seed=0, meaning=2.0):
    """Cases, two a patient, whose radiomics tell their class as far as `meaning` separates the classes."""
    rng = np.random.default_rng(seed)
    kinds = np.array(CONFIG.study.targets[0].classes)
    labels = np.repeat(rng.choice(4, count // 2, p=[0.4, 0.3, 0.2, 0.1]), 2)
    radiomics = rng.standard_normal((count, 8))
    radiomics[np.arange(count), labels] += meaning
    arrays = CaseArrays(
        crops=rng.standard_normal((count, 2, 8, 8, 8)).astype(np.float32),
        radiomics=radiomics,
        feature_names=tuple(f"f{number}" for number in range(8)),
        case_ids=np.arange(count).astype(str),
        patient_ids=np.repeat(np.arange(count // 2), 2).astype(str),
        sites=np.where(rng.random(count) < 0.5, "a", "b"),
        volumes_mm3=rng.uniform(100, 1000, count),
        labels={"kind": kinds[labels]},
    )
    return StudyCases(arrays, "made")


def out_of_fold(cases, column):
    """Probabilities of all cases by references of all folds."""
    folds = cases.folds(CONFIG, 1)
    probabilities = np.full((len(cases.arrays), 4), np.nan)
    for fold in range(CONFIG.study.folds):
        split = Split(1, np.flatnonzero(folds != fold), np.flatnonzero(folds == fold))
        found = predict_references(cases, split, CONFIG)
        probabilities[found["rows|kind"]] = found[column.key]
    return Predictions(cases.labels_of(CONFIG.study.targets[0]), probabilities)


def test_features_with_a_meaning_are_found_and_the_trivial_references_know_nothing():
    cases = made()
    scores = {
        block: balanced_accuracy(out_of_fold(cases, Column("kind", 1.0, MAIN, block)), np.ones((1, 240)))[0]
        for block in ("radiomics", "volume", "source", "majority")
    }
    assert scores["radiomics"] > 0.7
    assert max(scores["volume"], scores["source"]) < 0.45
    assert scores["majority"] == pytest.approx(0.25)


def test_permuted_labels_give_chance():
    areas = []
    for seed in range(3):
        cases = made(seed=seed)
        # By patient, so that the two cases of one still agree: only a leak could tell them.
        shuffled = np.random.default_rng(seed).permutation(cases.arrays.labels["kind"][::2]).repeat(2)
        cases.arrays.labels["kind"][:] = shuffled
        areas.append(macro_auc(out_of_fold(cases, Column("kind", 1.0, MAIN, "radiomics")), np.ones((1, 240)))[0])
    assert np.mean(areas) == pytest.approx(0.5, abs=0.05)


def test_a_feature_that_names_the_patient_is_worth_nothing():
    cases = made(meaning=0.0)
    names = np.eye(120)[cases.arrays.patient_ids.astype(int)]
    folds = cases.folds(CONFIG, 1)
    probabilities = np.full((240, 4), np.nan)
    for fold in range(2):
        split = Split(1, np.flatnonzero(folds != fold), np.flatnonzero(folds == fold))
        found = predict_blocks({"deep": names}, cases, split, CONFIG)
        probabilities[found["rows|kind"]] = found[Column("kind", 1.0, MAIN, "deep").key]
    predictions = Predictions(cases.labels_of(CONFIG.study.targets[0]), probabilities)
    assert macro_auc(predictions, np.ones((1, 240)))[0] == pytest.approx(0.5, abs=0.1)


def test_predictions_do_not_depend_on_the_test_folds_labels_or_features_of_others():
    cases, again = made(), made()
    folds = cases.folds(CONFIG, 1)
    split = Split(1, np.flatnonzero(folds != 0), np.flatnonzero(folds == 0))
    changed = again.arrays.labels["kind"]
    changed[split.test] = changed[split.test][::-1]
    first, second = (predict_references(each, split, CONFIG) for each in (cases, again))
    for key in first:
        if "majority" not in key:
            assert (first[key] == second[key]).all()


def test_half_of_the_labels_is_half_of_the_training_folds_and_the_whole_test_fold():
    cases, target = made(), CONFIG.study.targets[0]
    folds = cases.folds(CONFIG, 1)
    split = Split(1, np.flatnonzero(folds != 0), np.flatnonzero(folds == 0))
    half = labelled(cases, target, split, 0.5)
    assert len(half) == pytest.approx(len(split.train) / 2, abs=2)
    assert set(half) <= set(split.train)
    assert (predict_references(cases, split, CONFIG)["rows|kind"] == split.test).all()


def test_what_is_not_defined_anywhere_or_does_not_vary_in_training_is_left_out():
    block = np.random.default_rng(0).standard_normal((20, 4))
    block[15, 1], block[:10, 2] = np.nan, 3.0
    train, test = clean(block, np.arange(10), np.arange(10, 20))
    assert train.shape == test.shape == (10, 2)
    nothing, _ = clean(np.ones((20, 2)), np.arange(10), np.arange(10, 20))
    assert nothing.shape == (10, 1)


def test_methods_differ_from_plain_in_what_their_name_says():
    plain = CONFIG.pretraining_of("plain")
    assert plain.balance.strategy == "none"
    assert CONFIG.pretraining_of("shuffled-se").balance.grouping == "shuffled"
    assert CONFIG.pretraining_of("oracle-re").balance.grouping == "labels"
    assert CONFIG.pretraining_of("re+se").balance.alpha == 0.5
    assert CONFIG.pretraining_of("vicreg").objective == "vicreg"
    for method in set(METHODS) - {"supervised"}:
        same = CONFIG.pretraining_of(method).model_copy(update={"balance": plain.balance, "objective": plain.objective})
        assert same == plain


def test_a_row_is_its_method_but_for_what_it_says():
    bare, method = CONFIG.pretraining_of("bare"), CONFIG.pretraining_of("re-a")
    assert bare.balance.clusters == 3
    assert bare == method.model_copy(update={"balance": method.balance.model_copy(update={"clusters": 3})})
    assert CONFIG.pretraining_of("supervised").epochs == 3
    assert CONFIG.pretraining_of("plain").epochs == 2
    assert (CONFIG.encoder_of("bare").widths, CONFIG.encoder_of("re-a").widths) == ([4], [4, 8])
    own = CONFIG.preprocessing_of("")
    assert own.mask_channel
    assert CONFIG.preprocessing_of("unmasked") == own.model_copy(update={"mask_channel": False})


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("study-*.toml")), ids=lambda path: path.stem)
def test_the_studies_that_ship_can_be_read(path):
    config = read_study(path)
    assert [config.pretraining_of(name) for name in config.study.every_row]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"bare"]', '"re-z"]', "no method 're-z'"),
        ('minority = "lobulated"', 'minority = "flat"', "no class 'flat'"),
        ("ordered = true", 'positive = "smooth"', "must be one of two"),
        ("folds = 2\nmethods", "fold = 2\nmethods", "fold"),
        ('recipe = "unmasked"', 'recipe = "masked"', "no recipe 'masked'"),
        ("rows.bare]", "rows.plain]", "name of another method"),
        ("widths = [4], ", "widths = [4, 8, 8, 8], ", "multiple of 16"),
        ("balance.clusters = 3", "balance.cluster = 3", "cluster"),
        ("mask_channel = false", "masks = false", "masks"),
        ("[phantoms]\nfirst_seed = 900\ncount = 60\nsmall = true\n", "", "needs sources or phantoms"),
    ],
)
def test_wrong_configurations_are_refused_by_name(tmp_path, old, new, message):
    text = FILE.read_text()
    assert old in text
    path = tmp_path / "study.toml"
    path.write_text(text.replace(old, new))
    with pytest.raises(ConfigError, match=message):
        read_study(path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Cases folder and store of the tiny study, done in one go."""
    cache = tmp_path_factory.mktemp("study")
    cases, findings = build_cases(CONFIG, cache, cache, processes=1)
    assert findings == []
    run_study(CONFIG, cases, cache, processes=1)
    return cases, cache


def contents(bench):
    """Predictions of every file, by what they are of."""
    return {path.parent.name + path.name: dict(np.load(path)) for path in expected_files(bench)}


def test_every_case_is_predicted_once_by_every_method_and_block(finished):
    cases, store = finished
    bench = Bench(CONFIG, open_cases(cases), Store(store))
    for unit in plan_units(CONFIG):
        for source in unit.sources:
            found = [dict(np.load(bench.predictions_path(source, unit.seed, fold, unit.cohort))) for fold in range(2)]
            rows = np.concatenate([each["rows|kind"] for each in found]) if len(unit.folds) > 1 else None
            for each in found:
                for key, values in each.items():
                    if not key.startswith("rows|"):
                        assert values.sum(axis=1) == pytest.approx(np.ones(len(each["rows|kind"])), abs=1e-5)
            if rows is not None:
                assert sorted(rows) == list(range(60))


def test_pretraining_never_sees_the_test_fold(finished):
    cases, store = finished
    bench = Bench(CONFIG, open_cases(cases), Store(store))
    key = bench.representation_key("re-a", 1, 0, "all")
    with np.load(bench.store.representation(key)) as stored:
        clusters = stored["clusters"]
    train, test = bench.rows(1, 0, "all")
    assert (clusters[test] == -1).all()
    assert (clusters[train] >= 0).all()
    patients = bench.cases.arrays.patient_ids
    assert not set(patients[train]) & set(patients[test])


def test_strategies_share_the_plain_warm_up_and_objectives_do_not(finished):
    cases, store = finished
    bench = Bench(CONFIG, open_cases(cases), Store(store))
    keys = {method: bench.warm_up_key(method, 1, 0, "all") for method in ("plain", "re-a", "shuffled-re", "vicreg")}
    assert len({keys["plain"], keys["re-a"], keys["shuffled-re"]}) == 1
    assert keys["vicreg"] != keys["plain"]
    assert bench.store.warm_up(keys["plain"]).exists()


def test_rows_of_other_crops_or_networks_share_nothing_and_rows_of_other_clusters_the_warm_up(finished):
    cases, store = finished
    bench = Bench(CONFIG, open_cases(cases), Store(store))
    plain = CONFIG.study.rows["bare"].model_copy(update={"method": "plain"})
    alone = {
        "crops": {"encoder": None, "pretraining": {}},
        "network": {"recipe": "", "pretraining": {}},
        "clusters": {"recipe": "", "encoder": None},
    }
    rows = {name: plain.model_copy(update=changes) for name, changes in alone.items()}
    config = CONFIG.model_copy(update={"study": CONFIG.study.model_copy(update={"rows": rows})})
    bench = Bench(config, open_cases(cases), Store(store))
    names = ("plain", *alone)
    warm_ups = {name: bench.warm_up_key(name, 1, 0, "all") for name in names}
    assert warm_ups["clusters"] == warm_ups["plain"]
    assert len({*warm_ups.values()}) == 3
    assert len({bench.representation_key(name, 1, 0, "all") for name in names}) == 4


def test_another_recipe_cuts_the_same_cases_and_shares_their_radiomics(finished):
    opened = open_cases(finished[0])
    unmasked = opened.crops_of("unmasked")
    assert np.array_equal(unmasked, opened.arrays.crops[:, :1])
    assert opened.crops_of("") is opened.arrays.crops
    assert opened.recipe_digest("unmasked") != opened.recipe_digest("") is None
    assert opened.arrays.radiomics.shape[1] == len(opened.arrays.feature_names) > 0


def test_a_case_that_has_no_radiomics_is_in_no_row(tmp_path):
    for seed in range(4):
        write_glioma(tmp_path / "brats" / ("HGG" if seed % 2 else "LGG") / f"Brats18_{seed}", seed)
    mask = next((tmp_path / "brats" / "HGG" / "Brats18_1").glob("*_seg.nii.gz"))
    grid = nibabel.load(mask)
    point = np.zeros(grid.shape, np.uint8)
    point[tuple(np.argwhere(np.asarray(grid.dataobj))[0])] = 1
    write_nifti_array(mask, point, grid.affine)
    document = tomllib.loads(FILE.read_text())
    del document["phantoms"]
    document["sources"] = [{"reader": "brats", "folder": "brats"}]
    document["channels"] = ["t1"]
    document["preprocessing"]["windows"] = {"t1": {"low": 1.0, "high": 99.0, "unit": "percentile"}}
    document["study"] |= {"targets": [{"name": "grade", "classes": ["LGG", "HGG"]}], "skews": []}
    cases, findings = build_cases(StudyConfig.model_validate(document), tmp_path, tmp_path / "cache", processes=1)
    opened = open_cases(cases)
    assert [finding.case_id for finding in findings] == ["Brats18_1"]
    assert sorted(opened.arrays.case_ids) == ["Brats18_0", "Brats18_2", "Brats18_3"]
    assert np.array_equal(opened.crops_of("unmasked"), opened.arrays.crops[:, :1])


def test_what_is_finished_is_not_done_again(finished):
    cases, store = finished
    bench = Bench(CONFIG, open_cases(cases), Store(store))
    times = [path.stat().st_mtime_ns for path in expected_files(bench)]
    run_study(CONFIG, cases, store, processes=1)
    assert [path.stat().st_mtime_ns for path in expected_files(bench)] == times


def test_a_study_that_is_killed_goes_on_to_the_same_results(finished, tmp_path):
    cases, whole = finished
    bench = Bench(CONFIG, open_cases(cases), Store(tmp_path))
    process = get_context("spawn").Process(target=run_study, args=(CONFIG, cases, tmp_path, 1))
    process.start()
    while sum(path.exists() for path in expected_files(bench)) < 3:
        assert process.is_alive()
        time.sleep(0.02)
    process.kill()
    process.join()
    assert sum(path.exists() for path in expected_files(bench)) < len(expected_files(bench))
    run_study(CONFIG, cases, tmp_path, processes=1)
    first, second = contents(Bench(CONFIG, open_cases(cases), Store(whole))), contents(bench)
    assert first.keys() == second.keys()
    for name, columns in first.items():
        for key, values in columns.items():
            assert np.array_equal(values, second[name][key]), (name, key)
