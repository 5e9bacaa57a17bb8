"""What predictions are worth: every measure at once on the cases and on many resamplings of their patients.

A resampling is a row of weights: how often each case was drawn. All measures take weights [B, N] and give [B], so
that an interval costs a few matrix products; `patient_weights` puts the cases as they are into the first row.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
Labels = NDArray[np.intp]

SMALLEST = 1e-12  # probability that a logarithm is taken of
BINS = 10  # of the reliability diagram, evenly wide


@dataclass(frozen=True)
class Score:
    """A value and the bounds of its 95 % bootstrap interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"

    @property
    def excludes_zero(self) -> bool:
        """Whether a difference is more than the noise of the cases."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Predictions:
    """Labels [N] in 0..C-1 and the probabilities [N, C] that were predicted for them."""

    labels: Labels
    probabilities: Matrix

    @property
    def predicted(self) -> Labels:
        """The most probable class of each case: [N]."""
        return np.asarray(self.probabilities.argmax(axis=1), np.intp)

    @property
    def members(self) -> Matrix:
        """One column per class, 1 for its cases: [N, C]."""
        return np.eye(self.probabilities.shape[1])[self.labels]


Metric = Callable[[Predictions, Matrix], Matrix]


def patient_weights(patients: NDArray[np.str_], draws: int, seed: int) -> Matrix:
    """Return [1 + draws, N]: ones, then how often each case counts where patients are drawn with replacement."""
    names, owner = np.unique(patients, return_inverse=True)
    rng = np.random.default_rng([seed, 3])
    counts = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)
    return np.concatenate([np.ones((1, len(patients))), counts[:, owner]])


def interval(values: Matrix) -> Score:
    """Return the first of [1 + draws] values, and the 2.5th and 97.5th percentile of the others."""
    low, high = np.nanpercentile(values[1:], [2.5, 97.5])
    return Score(float(values[0]), float(low), float(high))


def recalls(predictions: Predictions, weights: Matrix) -> Matrix:
    """Return the share of each class that is predicted right: [B, C]; NaN where the class was not drawn."""
    members = predictions.members
    hits = members * (predictions.predicted == predictions.labels)[:, None]
    return _ratio(weights @ hits, weights @ members)


def recall_of(label: int) -> Metric:
    """Return the metric that is the recall of one class: sensitivity, specificity, or that of a minority."""
    return lambda predictions, weights: recalls(predictions, weights)[:, label]


def balanced_accuracy(predictions: Predictions, weights: Matrix) -> Matrix:
    """Return the mean recall of the classes that were drawn: [B]."""
    return _mean_known(recalls(predictions, weights))


def accuracy(predictions: Predictions, weights: Matrix) -> Matrix:
    """Return the share of the cases that is predicted right: [B]."""
    return _ratio(weights @ (predictions.predicted == predictions.labels), weights.sum(axis=1))


def macro_auc(predictions: Predictions, weights: Matrix) -> Matrix:
    """Return the mean over classes of the area under the one-against-rest ROC curve; ties count half: [B].

    References:
        Hanley and McNeil, Radiology 143 (1982): the area is the Mann-Whitney statistic.
    """
    classes = predictions.probabilities.shape[1]
    areas = [
        _auc(predictions.probabilities[:, label], predictions.labels == label, weights)
        for label in (range(classes) if classes > 2 else [1])  # two classes share one area
    ]
    return _mean_known(np.stack(areas, axis=1))


def quadratic_kappa(predictions: Predictions, weights: Matrix) -> Matrix:
    """Return Cohen's kappa of ordered classes with quadratic weights: [B].

    References:
        Cohen, Psychological Bulletin 70 (1968), weighted kappa: 1 - observed / expected disagreement.
    """
    matrices = confusion(predictions, weights)
    classes = np.arange(matrices.shape[1])
    disagreement = (classes[:, None] - classes[None, :]) ** 2
    total = matrices.sum(axis=(1, 2))
    chance = matrices.sum(axis=2)[:, :, None] * matrices.sum(axis=1)[:, None, :] / total[:, None, None]
    return 1.0 - _ratio((matrices * disagreement).sum(axis=(1, 2)), (chance * disagreement).sum(axis=(1, 2)))


def confusion(predictions: Predictions, weights: Matrix) -> Matrix:
    """Return how many cases of each class (second axis) were predicted as each (third): [B, C, C]."""
    members, classes = predictions.members, predictions.probabilities.shape[1]
    chosen = np.eye(classes)[predictions.predicted]
    pairs = (members[:, :, None] * chosen[:, None, :]).reshape(len(members), -1)
    return np.asarray(weights @ pairs).reshape(len(weights), classes, classes)


def balanced_cross_entropy(predictions: Predictions, weights: Matrix) -> Matrix:
    """Return the cross-entropy averaged within each class, then over the classes, in nats: [B]."""
    members = predictions.members
    of_truth = np.take_along_axis(predictions.probabilities, predictions.labels[:, None], axis=1)
    losses = -np.log(np.maximum(of_truth, SMALLEST))
    return _mean_known(_ratio(weights @ (members * losses), weights @ members))


def calibration_error(predictions: Predictions, weights: Matrix) -> Matrix:
    """Return the expected calibration error of the most probable class, were all classes equally frequent: [B].

    References:
        Guo et al., arXiv 1706.04599, Eq. 3, with the cases of each class weighted to the same sum.
    """
    balanced = _balance(predictions, weights)
    inside = _bin_members(predictions)
    gap = (predictions.predicted == predictions.labels) - predictions.probabilities.max(axis=1)
    return _ratio(np.abs(balanced @ (inside * gap[:, None])).sum(axis=1), balanced.sum(axis=1))


@dataclass(frozen=True)
class Reliability:
    """Per bin of confidence that holds any case: mean confidence, share predicted right, share of the cases."""

    confidence: Matrix
    accuracy: Matrix
    share: Matrix


def reliability(predictions: Predictions) -> Reliability:
    """Return the reliability diagram of the most probable class, were all classes equally frequent."""
    weights = _balance(predictions, np.ones((1, len(predictions.labels))))
    inside = _bin_members(predictions)
    mass = (weights @ inside)[0]
    filled = mass > 0
    confidence = (weights @ (inside * predictions.probabilities.max(axis=1)[:, None]))[0][filled]
    right = (weights @ (inside * (predictions.predicted == predictions.labels)[:, None]))[0][filled]
    return Reliability(confidence / mass[filled], right / mass[filled], mass[filled] / mass.sum())


def choose_metrics(labels: Labels, classes: Sequence[str], positive: str | None, ordered: bool) -> dict[str, Metric]:
    """Return the measures that fit a target, by name; the rarest class of `labels` is the minority."""
    counts = np.bincount(labels, minlength=len(classes))
    metrics: dict[str, Metric] = {
        "balanced accuracy": balanced_accuracy,
        "macro AUC": macro_auc,
        "minority recall": recall_of(int(counts.argmin())),
        "accuracy": accuracy,
    }
    if positive is not None:
        metrics["sensitivity"] = recall_of(classes.index(positive))
        metrics["specificity"] = recall_of(1 - classes.index(positive))
    if ordered:
        metrics["quadratic kappa"] = quadratic_kappa
    metrics["balanced cross-entropy"] = balanced_cross_entropy
    metrics["calibration error"] = calibration_error
    return metrics | {f"recall of {name}": recall_of(number) for number, name in enumerate(classes)}


def _auc(scores: Matrix, inside: NDArray[np.bool_], weights: Matrix) -> Matrix:
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))  # of each run of equal scores
    sorted_weights = weights[:, order]
    positive = np.add.reduceat(sorted_weights * inside[order], starts, axis=1)
    negative = np.add.reduceat(sorted_weights * ~inside[order], starts, axis=1)
    below = np.cumsum(negative, axis=1) - negative / 2
    return _ratio((positive * below).sum(axis=1), positive.sum(axis=1) * negative.sum(axis=1))


def _balance(predictions: Predictions, weights: Matrix) -> Matrix:
    """Scale the weights so that each class that was drawn has the sum 1."""
    members = predictions.members
    totals = weights @ members
    scale = np.divide(1.0, totals, out=np.zeros_like(totals), where=totals > 0)
    return np.asarray(weights * (scale @ members.T))


def _bin_members(predictions: Predictions) -> Matrix:
    bins = np.minimum((predictions.probabilities.max(axis=1) * BINS).astype(np.intp), BINS - 1)
    return np.asarray(np.eye(BINS)[bins])


def _mean_known(values: Matrix) -> Matrix:
    """Return the mean over the columns that are not NaN."""
    known = ~np.isnan(values)
    return _ratio(np.where(known, values, 0.0).sum(axis=1), known.sum(axis=1).astype(np.float64))


def _ratio(numerator: Matrix, denominator: Matrix) -> Matrix:
    """Divide; NaN where nothing was drawn."""
    return np.asarray(np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0))
