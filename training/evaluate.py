"""How good features are: cross-validated and on fresh cases, with intervals, beside references that know nothing."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from training.config import HeadFitting
from training.fit_heads import Labels, Matrix, fit_classifier, out_of_fold_probabilities


@dataclass(frozen=True)
class Score:
    """A value and the bounds of its 95 % bootstrap interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


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
    predicted = probabilities.argmax(axis=1)
    return Row(
        features=features,
        cases=cases,
        balanced_accuracy=_interval(
            lambda at: balanced_accuracy(labels[at], predicted[at]), len(labels), bootstrap, seed
        ),
        macro_auc=_interval(lambda at: macro_auc(labels[at], probabilities[at]), len(labels), bootstrap, seed),
        recalls=tuple(float((predicted[labels == label] == label).mean()) for label in np.unique(labels)),
    )


def balanced_accuracy(labels: Labels, predicted: Labels) -> float:
    """Return the mean over classes of the share of its cases that are predicted right."""
    return float(np.mean([(predicted[labels == label] == label).mean() for label in np.unique(labels)]))


def macro_auc(labels: Labels, probabilities: Matrix) -> float:
    """Return the mean over classes of the area under the one-against-rest ROC curve; ties count half.

    References:
        Hanley and McNeil, Radiology 143 (1982): the area is the Mann-Whitney statistic.
    """
    areas = []
    for label in np.unique(labels):
        members = labels == label
        inside, outside = int(members.sum()), int((~members).sum())
        if inside and outside:
            ranks = rankdata(probabilities[:, label])
            areas.append((ranks[members].sum() - inside * (inside + 1) / 2) / (inside * outside))
    return float(np.mean(areas))


def _interval(statistic: Callable[[Labels], float], count: int, bootstrap: int, seed: int) -> Score:
    """Return the statistic on all cases and the 2.5th and 97.5th percentile over resampled ones."""
    rng = np.random.default_rng([seed, 3])
    drawn = [statistic(rng.integers(count, size=count)) for _ in range(bootstrap)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Score(statistic(np.arange(count)), float(low), float(high))
