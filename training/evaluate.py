"""How good features are: cross-validated and on fresh cases, with intervals, beside references that know nothing."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from training.config import HeadFitting
from training.fit_heads import fit_classifier, out_of_fold_probabilities
from training.metrics import (
    Labels,
    Matrix,
    Predictions,
    Score,
    balanced_accuracy,
    interval,
    macro_auc,
    patient_weights,
    recalls,
)


@dataclass(frozen=True)
class Row:
    """One line of the table: what one set of features can do."""

    features: str
    cases: str
    balanced_accuracy: Score
    macro_auc: Score
    recalls: tuple[float, ...]  # by class


@dataclass(frozen=True)
class Blocks:
    """The feature sets of N cases by name, each [N, F], and the labels [N] in 0..C-1."""

    features: Mapping[str, Matrix]
    labels: Labels


def compare(training: Blocks, fresh: Blocks, settings: HeadFitting, seed: int) -> list[Row]:
    """Score every feature set by cross-validation on `training`, and fitted on it, on `fresh`.

    The last rows are the majority class, which uses no feature at all.
    """
    rows = []
    for name, x in training.features.items():
        inside = out_of_fold_probabilities(x, training.labels, settings, seed)
        rows.append(score(name, "cross-validated", training.labels, inside, settings.bootstrap, seed))
        classifier = fit_classifier(x, training.labels, settings, seed)
        outside = classifier.probabilities(fresh.features[name])
        rows.append(score(name, "fresh", fresh.labels, outside, settings.bootstrap, seed))
    frequencies = np.bincount(training.labels) / len(training.labels)
    for cases, labels in (("cross-validated", training.labels), ("fresh", fresh.labels)):
        constant = np.tile(frequencies, (len(labels), 1))
        rows.append(score("majority class", cases, labels, constant, settings.bootstrap, seed))
    return rows


def score(features: str, cases: str, labels: Labels, probabilities: Matrix, bootstrap: int, seed: int) -> Row:
    """Score probabilities [N, C] of labels [N]; intervals resample cases `bootstrap` times."""
    predictions = Predictions(labels, probabilities)
    weights = patient_weights(np.arange(len(labels)).astype(np.str_), bootstrap, seed)
    return Row(
        features=features,
        cases=cases,
        balanced_accuracy=interval(balanced_accuracy(predictions, weights)),
        macro_auc=interval(macro_auc(predictions, weights)),
        recalls=tuple(recalls(predictions, weights[:1])[0].tolist()),
    )
