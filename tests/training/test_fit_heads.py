import numpy as np
import pytest
from scipy.special import log_softmax

from service.features.vector import FeatureVector
from service.heads import Head
from training.config import HeadFitting
from training.evaluate import Blocks, compare, score
from training.fit_heads import (
    HEAD_KINDS,
    balanced_cross_entropy,
    fit_classifier,
    fit_novelty,
    fit_standardiser,
    fit_temperature,
    make_document,
    novelty_threshold,
    out_of_fold_probabilities,
    split_folds,
    usable_features,
)
from training.metrics import Predictions, macro_auc

SETTINGS = HeadFitting(
    inverse_penalties=[0.01, 0.1, 1.0], folds=3, novelty_variance=0.95, novelty_percentile=99.0, bootstrap=200
)


def clouds(count, seed=0, apart=1.5, classes=3):
    """Unevenly frequent Gaussian classes in six dimensions, the last two without meaning."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(classes, size=count, p=np.array([0.6, 0.3, 0.1][:classes]) / sum([0.6, 0.3, 0.1][:classes]))
    x = rng.standard_normal((count, 6)) * 3.0 + 10.0
    x[np.arange(count), labels] += 3.0 * apart
    return x, labels


@pytest.mark.parametrize("classes", [2, 3])
def test_the_document_predicts_what_was_fitted(classes):
    x, labels = clouds(200, classes=classes)
    classifier, space = fit_classifier(x, labels, SETTINGS, seed=1), fit_novelty(x, 0.95)
    names = [f"f{index}" for index in range(6)]
    head = Head(
        make_document(
            classifier, (space, 2.0), target="t", classes=["a", "b", "c"][:classes], features=names, evidence="card.md"
        )
    )
    for row in x[:10]:
        prediction = head.predict(FeatureVector(tuple(names), row))
        expected = classifier.probabilities(row[None])[0]
        assert list(prediction.probabilities.values()) == pytest.approx(expected.tolist(), abs=1e-6)
        assert prediction.novelty == pytest.approx(space.scores(row[None])[0], rel=1e-6)
        assert prediction.calibrated


def test_the_minority_is_found_in_spite_of_its_rarity():
    x, labels = clouds(400, apart=2.5)
    classifier = fit_classifier(x, labels, SETTINGS, seed=1)
    fresh, truth = clouds(400, seed=9, apart=2.5)
    predicted = classifier.probabilities(fresh).argmax(axis=1)
    assert (predicted[truth == 2] == 2).mean() > 0.6


def test_temperature_undoes_a_known_scaling():
    rng = np.random.default_rng(2)
    logits = 2.0 * rng.standard_normal((20_000, 3))
    labels = np.array([rng.choice(3, p=row) for row in np.exp(log_softmax(logits, axis=1))])
    temperature, loss = fit_temperature(4.0 * logits, labels)
    assert temperature == pytest.approx(4.0, rel=0.05)
    assert loss == pytest.approx(balanced_cross_entropy(logits, labels), rel=1e-3)


def test_balanced_cross_entropy_of_ignorance_is_the_logarithm_of_the_classes():
    assert balanced_cross_entropy(np.zeros((10, 4)), np.array([0] * 7 + [1, 2, 3])) == pytest.approx(np.log(4))


def test_out_of_fold_probabilities_know_nothing_of_noise():
    rng = np.random.default_rng(4)
    x, labels = rng.standard_normal((240, 6)), rng.integers(0, 3, 240)
    probabilities = out_of_fold_probabilities(x, labels, SETTINGS, seed=0)
    assert probabilities.sum(axis=1) == pytest.approx(np.ones(240))
    assert macro_auc(Predictions(labels, probabilities), np.ones((1, 240)))[0] == pytest.approx(0.5, abs=0.08)


def test_whitened_scores_average_to_one_and_flag_what_is_far():
    x, labels = clouds(500)
    space = fit_novelty(x, 0.999)
    assert space.scores(x).mean() == pytest.approx(1.0)
    threshold = novelty_threshold(x, labels, SETTINGS, seed=0)
    fresh, _ = clouds(2000, seed=8)
    assert 0.002 < (space.scores(fresh) > threshold).mean() < 0.03
    assert (space.scores(fresh + 30.0) > threshold).all()


def test_features_that_say_nothing_or_are_undefined_are_left_out():
    x = np.random.default_rng(0).standard_normal((20, 4))
    x[:, 1], x[3, 2] = 7.0, np.nan
    assert usable_features(x).tolist() == [True, False, False, True]


@pytest.mark.parametrize("kind", HEAD_KINDS, ids=lambda kind: kind.name)
def test_every_kind_of_head_learns_and_its_temperature_makes_probabilities(kind):
    x, labels = clouds(400, apart=2.0)
    fresh, truth = clouds(400, seed=9, apart=2.0)
    probabilities = fit_classifier(x, labels, SETTINGS, seed=1, kind=kind).probabilities(fresh)
    assert probabilities.sum(axis=1) == pytest.approx(np.ones(400))
    assert macro_auc(Predictions(truth, probabilities), np.ones((1, 400)))[0] > 0.85


def test_weights_raise_the_recall_of_the_rarest():
    (x, labels), (fresh, truth) = clouds(400, apart=0.7), clouds(2000, seed=9, apart=0.7)
    found = {
        kind.name: (
            fit_classifier(x, labels, SETTINGS, seed=1, kind=kind).probabilities(fresh).argmax(axis=1)[truth == 2] == 2
        ).mean()
        for kind in HEAD_KINDS
    }
    assert found["logistic-weighted"] > found["logistic-plain"] + 0.1
    assert found["svm-weighted"] > found["svm-plain"] + 0.1


def test_a_patient_never_straddles_the_inner_folds():
    labels = np.tile([0, 1], 60)
    patients = np.repeat(np.arange(40), 3).astype(str)
    held_out = []
    for fitted, unseen in split_folds(labels, 4, 0, patients):
        assert not set(patients[fitted]) & set(patients[unseen])
        held_out += unseen.tolist()
    assert sorted(held_out) == list(range(120))


def test_interval_covers_its_value_and_narrows_with_cases():
    widths = []
    for count in (100, 1600):
        x, labels = clouds(count)
        row = score("raw", "all", labels, np.exp(log_softmax(x[:, :3] - 10, axis=1)), 300, seed=0)
        assert row.macro_auc.low <= row.macro_auc.value <= row.macro_auc.high
        widths.append(row.balanced_accuracy.high - row.balanced_accuracy.low)
    assert widths[1] < 0.5 * widths[0]


def test_comparison_ranks_meaning_above_noise_and_noise_with_the_majority():
    (x, labels), (fresh, truth) = clouds(300, apart=2.5), clouds(300, seed=3, apart=2.5)
    rows = compare(
        Blocks({"all": x, "noise": x[:, 4:]}, labels), Blocks({"all": fresh, "noise": fresh[:, 4:]}, truth), SETTINGS, 0
    )
    by_name = {(row.features, row.cases): row for row in rows}
    assert by_name["all", "fresh"].balanced_accuracy.low > 0.5
    assert by_name["noise", "fresh"].balanced_accuracy.value == pytest.approx(1 / 3, abs=0.1)
    assert by_name["majority class", "fresh"].balanced_accuracy.value == pytest.approx(1 / 3)
    assert by_name["majority class", "fresh"].macro_auc.value == pytest.approx(0.5)


def test_feature_constant_but_for_rounding_is_not_blown_up_by_standardising():
    rng = np.random.default_rng(5)
    x = rng.normal(size=(30, 2))
    x[:, 1] = 0.1 * 3 + np.where(np.arange(30) % 2, 0.0, 1e-16)
    standardise = fit_standardiser(x)
    assert standardise.scale[1] == 1.0
    assert np.abs(standardise(x)[:, 1]).max() < 1e-12
    assert fit_novelty(x, 0.99).scores(x + np.array([0.0, 1e-12])).max() < 50


def test_feature_that_one_case_alone_moves_is_not_used():
    x = np.random.default_rng(6).normal(size=(24, 3))
    x[7, 1] = 1e6
    x[:, 2] = x[:, 2] > 0  # two values, many cases of each
    assert usable_features(x).tolist() == [True, False, True]
