import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    cohen_kappa_score,
    confusion_matrix,
    roc_auc_score,
)

from training.metrics import (
    Predictions,
    accuracy,
    balanced_accuracy,
    balanced_cross_entropy,
    calibration_error,
    choose_metrics,
    confusion,
    interval,
    macro_auc,
    patient_weights,
    quadratic_kappa,
    recalls,
    reliability,
)

METRICS = [balanced_accuracy, accuracy, macro_auc, quadratic_kappa, balanced_cross_entropy, calibration_error]


def predictions(count=300, classes=4, seed=0, decimals=1):
    """Random probabilities with many ties, somewhat in favour of the truth."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(classes, size=count, p=np.arange(1, classes + 1) / np.arange(1, classes + 1).sum())
    raw = rng.random((count, classes)).round(decimals) + 0.01
    raw[np.arange(count), labels] += 0.3
    return Predictions(labels, raw / raw.sum(axis=1, keepdims=True))


def once(metric, given_predictions):
    return metric(given_predictions, np.ones((1, len(given_predictions.labels))))[0]


@pytest.mark.parametrize("classes", [2, 4])
def test_values_equal_those_of_scikit_learn(classes):
    drawn = predictions(classes=classes)
    labels, chosen = drawn.labels, drawn.predicted
    scores = drawn.probabilities if classes > 2 else drawn.probabilities[:, 1]
    assert once(macro_auc, drawn) == pytest.approx(roc_auc_score(labels, scores, multi_class="ovr", average="macro"))
    assert once(balanced_accuracy, drawn) == pytest.approx(balanced_accuracy_score(labels, chosen))
    assert once(accuracy, drawn) == pytest.approx(accuracy_score(labels, chosen))
    assert once(quadratic_kappa, drawn) == pytest.approx(cohen_kappa_score(labels, chosen, weights="quadratic"))
    assert (once(confusion, drawn) == confusion_matrix(labels, chosen)).all()


@pytest.mark.parametrize("metric", METRICS)
def test_weights_mean_drawing_a_case_as_often(metric):
    drawn = predictions(count=120)
    patients = np.repeat(np.arange(40), 3).astype(str)
    weights = patient_weights(patients, draws=5, seed=1)
    for row in weights:
        at = np.repeat(np.arange(120), row.astype(int))
        repeated = Predictions(drawn.labels[at], drawn.probabilities[at])
        assert metric(drawn, row[None])[0] == pytest.approx(once(metric, repeated))


@pytest.mark.parametrize("metric", METRICS)
@given(seed=st.integers(0, 1000))
def test_the_order_of_cases_does_not_matter(metric, seed):
    drawn = predictions(count=50, seed=seed)
    order = np.random.default_rng(seed).permutation(50)
    shuffled = Predictions(drawn.labels[order], drawn.probabilities[order])
    assert once(metric, shuffled) == pytest.approx(once(metric, drawn))


@pytest.mark.parametrize("metric", [balanced_accuracy, accuracy, macro_auc, balanced_cross_entropy, quadratic_kappa])
def test_reversing_the_classes_does_not_matter(metric):
    drawn = predictions(decimals=6)
    reversed_ = Predictions(3 - drawn.labels, drawn.probabilities[:, ::-1])
    assert once(metric, reversed_) == pytest.approx(once(metric, drawn))


def test_areas_only_depend_on_the_order_of_the_scores():
    drawn = predictions(classes=2)
    bent = drawn.probabilities[:, 1] ** 3
    assert once(macro_auc, Predictions(drawn.labels, np.stack([1 - bent, bent], axis=1))) == pytest.approx(
        once(macro_auc, drawn)
    )


def test_perfect_and_constant_predictions_have_their_closed_forms():
    labels = np.array([0] * 6 + [1] * 3 + [2])
    perfect, constant = Predictions(labels, np.eye(3)[labels]), Predictions(labels, np.tile([0.6, 0.3, 0.1], (10, 1)))
    for metric in (balanced_accuracy, accuracy, macro_auc, quadratic_kappa):
        assert once(metric, perfect) == pytest.approx(1.0)
    assert once(balanced_cross_entropy, perfect) == pytest.approx(0.0)
    assert once(calibration_error, perfect) == pytest.approx(0.0)
    assert once(balanced_accuracy, constant) == pytest.approx(1 / 3)
    assert once(accuracy, constant) == pytest.approx(0.6)
    assert once(macro_auc, constant) == pytest.approx(0.5)
    assert once(quadratic_kappa, constant) == pytest.approx(0.0)
    assert once(balanced_cross_entropy, constant) == pytest.approx(-np.log([0.6, 0.3, 0.1]).mean())
    # A third of the balanced population is right where 0.6 was promised.
    assert once(calibration_error, constant) == pytest.approx(0.6 - 1 / 3)


def test_calibrated_probabilities_have_a_small_error_and_overconfident_ones_a_large_one():
    rng = np.random.default_rng(3)
    p = rng.uniform(0.02, 0.98, 20_000)
    labels = (rng.random(20_000) < p).astype(int)
    honest = Predictions(labels, np.stack([1 - p, p], axis=1))
    sharp = p**4 / (p**4 + (1 - p) ** 4)
    boastful = Predictions(labels, np.stack([1 - sharp, sharp], axis=1))
    assert once(calibration_error, honest) < 0.02
    assert once(calibration_error, boastful) > 0.1
    diagram = reliability(honest)
    assert diagram.accuracy == pytest.approx(diagram.confidence, abs=0.04)
    assert diagram.share.sum() == pytest.approx(1.0)


def test_a_class_that_was_not_drawn_is_left_out_of_the_means():
    drawn = Predictions(np.array([0, 1, 2, 2]), np.eye(3)[[0, 2, 2, 2]])
    weights = np.array([[1.0, 1, 1, 1], [1, 0, 1, 1]])
    assert recalls(drawn, weights)[0].tolist() == [1.0, 0.0, 1.0]
    assert balanced_accuracy(drawn, weights) == pytest.approx([2 / 3, 1.0])
    assert np.isnan(recalls(drawn, weights)[1, 1])


def test_all_cases_of_a_patient_are_drawn_together_and_as_often_as_chance_has_it():
    patients = np.array(["a", "b", "b", "c", "c", "c"])
    weights = patient_weights(patients, draws=4000, seed=0)
    assert (weights[0] == 1).all()
    assert (weights[:, 1] == weights[:, 2]).all()
    assert (weights[:, [0, 1, 3]].sum(axis=1) == 3).all()
    assert weights[1:].mean(axis=0) == pytest.approx(np.ones(6), abs=0.05)


def test_intervals_have_the_width_of_the_binomial_and_widen_where_patients_are_few():
    rng = np.random.default_rng(0)
    labels = np.tile([0, 1], 200)
    chosen = np.where(rng.random(400) < 0.8, labels, 1 - labels)
    drawn = Predictions(labels, np.eye(2)[chosen])
    each = interval(accuracy(drawn, patient_weights(np.arange(400).astype(str), 4000, 0)))
    assert each.high - each.low == pytest.approx(2 * 1.96 * np.sqrt(0.8 * 0.2 / 400), rel=0.12)
    # Ten cases a patient, right or wrong together: as if there were a tenth of the cases.
    together = Predictions(labels, np.eye(2)[np.where(np.repeat(rng.random(40) < 0.8, 10), labels, 1 - labels)])
    grouped = interval(accuracy(together, patient_weights(np.repeat(np.arange(40), 10).astype(str), 4000, 0)))
    assert grouped.high - grouped.low > 2.0 * (each.high - each.low)


def test_a_paired_difference_is_narrower_than_either_value():
    drawn = predictions(count=400, classes=2, decimals=6)
    rng = np.random.default_rng(1)
    nearly = Predictions(drawn.labels, np.clip(drawn.probabilities + rng.normal(0, 0.01, (400, 1)) * [1, -1], 0, 1))
    weights = patient_weights(np.arange(400).astype(str), 1000, 0)
    alone = interval(macro_auc(drawn, weights))
    paired = interval(macro_auc(drawn, weights) - macro_auc(nearly, weights))
    assert paired.high - paired.low < 0.3 * (alone.high - alone.low)


def test_the_measures_of_a_target_follow_its_classes():
    labels = np.array([0] * 5 + [1] * 2)
    metrics = choose_metrics(labels, ["benign", "malignant"], positive="malignant", ordered=False)
    drawn = Predictions(labels, np.eye(2)[[0, 0, 0, 0, 1, 1, 0]])
    assert once(metrics["sensitivity"], drawn) == once(metrics["minority recall"], drawn) == pytest.approx(0.5)
    assert once(metrics["specificity"], drawn) == once(metrics["recall of benign"], drawn) == pytest.approx(0.8)
    assert "quadratic kappa" not in metrics
    assert "quadratic kappa" in choose_metrics(labels, ["I", "II"], positive=None, ordered=True)
