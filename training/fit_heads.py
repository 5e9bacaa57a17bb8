"""Heads on frozen features: linear classifiers, calibrated on inner folds, with a novelty check."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.svm import LinearSVC

from service.heads import HeadDocument, Novelty
from training.config import HeadFitting
from training.folds import assign_folds
from training.metrics import Labels, Matrix

DIGITS = 9  # of the numbers in a head's document
LONE_SHARE = 0.99  # of a feature's squared deviations from its median that one case may hold
LEAST_SPREAD = 1e-9  # of a feature, relative to its size: less is rounding


@dataclass(frozen=True)
class HeadKind:
    """A family of linear classifiers; `weighted` gives every class the same sum of weights."""

    model: Literal["logistic", "svm"] = "logistic"
    weighted: bool = True

    @property
    def name(self) -> str:
        """The kind in a word, such as `logistic-weighted`."""
        return f"{self.model}-{'weighted' if self.weighted else 'plain'}"


HEAD_KINDS = tuple(HeadKind(model, weighted) for model in ("logistic", "svm") for weighted in (True, False))


@dataclass(frozen=True)
class Standardiser:
    """z = (x - mean) / scale, over the features that vary."""

    mean: Matrix  # (F,)
    scale: Matrix  # (F,)

    def __call__(self, x: Matrix) -> Matrix:
        """Return [N, F] features standardised."""
        return np.asarray((x - self.mean) / self.scale, np.float64)


@dataclass(frozen=True)
class Classifier:
    """logits = (weights z + intercept) / temperature."""

    standardiser: Standardiser
    weights: Matrix  # (C, F)
    intercept: Matrix  # (C,)
    temperature: float
    inverse_penalty: float

    def probabilities(self, x: Matrix) -> Matrix:
        """Return [N, C] from features [N, F]."""
        logits = self.standardiser(x) @ self.weights.T + self.intercept
        return np.asarray(np.exp(log_softmax(logits / self.temperature, axis=1)), np.float64)


@dataclass(frozen=True)
class NoveltySpace:
    """Principal components of the standardised features, whitened; typical cases score about 1."""

    standardiser: Standardiser
    components: Matrix  # (q, F)
    scale: Matrix  # (q,)

    def scores(self, x: Matrix) -> Matrix:
        """Return the mean squared whitened projection of each case: (N,)."""
        return np.asarray(((self.standardiser(x) @ self.components.T / self.scale) ** 2).mean(axis=1), np.float64)


def usable_features(x: Matrix) -> NDArray[np.bool_]:
    """Return which columns are finite in every case, and that more than one case moves: (F,).

    A column that one case alone moves, such as a coarseness of 1e6 where a region is flat, would make every
    fold without that case blind to how large the feature can be.
    """
    finite = np.isfinite(x).all(axis=0)
    kept = np.where(finite, x, 0.0)
    squares = (kept - np.median(kept, axis=0)) ** 2
    varies = kept.std(axis=0) > LEAST_SPREAD * (1.0 + np.abs(kept).max(axis=0))
    return np.asarray(finite & varies & (squares.max(axis=0) < LONE_SHARE * squares.sum(axis=0)))


def fit_standardiser(x: Matrix) -> Standardiser:
    """Return mean and standard deviation per feature; one that does not vary here keeps a scale of 1."""
    mean, scale = x.mean(axis=0), x.std(axis=0)
    varies = scale > LEAST_SPREAD * (1.0 + np.abs(x).max(axis=0))  # what rounding leaves of a constant is no spread
    return Standardiser(mean, np.where(varies, scale, 1.0))


def fit_classifier(
    x: Matrix,
    labels: Labels,
    settings: HeadFitting,
    seed: int,
    *,
    kind: HeadKind = HeadKind(),
    groups: NDArray[np.str_] | None = None,
) -> Classifier:
    """Fit on x [N, F] and labels [N] in 0..C-1; penalty and temperature come from inner folds.

    Both minimise the class-balanced cross-entropy of out-of-fold logits, so that the probabilities are those of a
    population in which the classes are equally frequent. A support vector machine's margins are taken for logits.

    Args:
        x: features.
        labels: every class of the target occurs, in at least as many cases as there are inner folds.
        settings: penalties to choose among, and the number of inner folds.
        seed: of the inner folds.
        kind: the family.
        groups: [N], such as patients; one group never straddles the inner folds.
    """
    trials = []
    logits = _out_of_fold_logits(x, labels, settings, seed + 1, kind, groups)
    for inverse_penalty, held_out in zip(sorted(settings.inverse_penalties), logits, strict=True):
        temperature, loss = fit_temperature(held_out, labels)
        trials.append((loss, inverse_penalty, temperature))
    _, inverse_penalty, temperature = min(trials)
    standardiser = fit_standardiser(x)
    weights, intercept = next(_fit_path(standardiser(x), labels, [inverse_penalty], kind))
    return Classifier(standardiser, weights, intercept, temperature, inverse_penalty)


def fit_temperature(logits: Matrix, labels: Labels) -> tuple[float, float]:
    """Return the temperature that minimises the class-balanced cross-entropy, and that cross-entropy.

    References:
        Guo et al., arXiv 1706.04599, Sec. 4.2 (temperature scaling), here with class weights.
    """

    def loss(log_temperature: float) -> float:
        return balanced_cross_entropy(logits / np.exp(log_temperature), labels)

    best = minimize_scalar(loss, bounds=(np.log(0.05), np.log(20.0)), method="bounded")
    return float(np.exp(best.x)), float(best.fun)


def balanced_cross_entropy(logits: Matrix, labels: Labels) -> float:
    """Return the cross-entropy averaged within each class, then over classes, in nats."""
    losses = -log_softmax(logits, axis=1)[np.arange(len(labels)), labels]
    return float(np.mean([losses[labels == label].mean() for label in np.unique(labels)]))


def out_of_fold_probabilities(
    x: Matrix, labels: Labels, settings: HeadFitting, seed: int, groups: NDArray[np.str_] | None = None
) -> Matrix:
    """Return [N, C] probabilities of classifiers that never saw the case's group, not even to choose the penalty."""
    probabilities = np.empty((len(x), int(labels.max()) + 1))
    for fitted, held_out in split_folds(labels, settings.folds, seed, groups):
        inner = None if groups is None else groups[fitted]
        classifier = fit_classifier(x[fitted], labels[fitted], settings, seed, groups=inner)
        probabilities[held_out] = classifier.probabilities(x[held_out])
    return probabilities


def fit_novelty(x: Matrix, variance: float) -> NoveltySpace:
    """Keep the principal components that hold `variance` of the standardised features' variance."""
    standardiser = fit_standardiser(x)
    _, singular, components = np.linalg.svd(standardiser(x), full_matrices=False)
    shares = np.cumsum(singular**2) / (singular**2).sum()
    kept = int(np.searchsorted(shares, variance)) + 1
    return NoveltySpace(standardiser, components[:kept], singular[:kept] / np.sqrt(len(x)))


def novelty_threshold(
    x: Matrix, labels: Labels, settings: HeadFitting, seed: int, groups: NDArray[np.str_] | None = None
) -> float:
    """Return the percentile of the scores that cases get from the other folds' novelty space."""
    scores = np.empty(len(x))
    for fitted, held_out in split_folds(labels, settings.folds, seed, groups):
        scores[held_out] = fit_novelty(x[fitted], settings.novelty_variance).scores(x[held_out])
    return float(np.percentile(scores, settings.novelty_percentile))


def make_document(
    classifier: Classifier,
    novelty: tuple[NoveltySpace, float],
    *,
    target: str,
    classes: Sequence[str],
    features: Sequence[str],
    evidence: str,
) -> HeadDocument:
    """Write a fitted classifier and novelty space (with its threshold) down as a head of the service."""
    space, threshold = novelty
    return HeadDocument(
        target=target,
        classes=list(classes),
        features=list(features),
        mean=_plain(classifier.standardiser.mean),
        scale=_plain(classifier.standardiser.scale),
        weights=[_plain(row) for row in classifier.weights],
        intercept=_plain(classifier.intercept),
        temperature=_plain(np.array([classifier.temperature]))[0],
        calibrated=True,
        novelty=Novelty(
            components=[_plain(row) for row in space.components],
            scale=_plain(space.scale),
            threshold=_plain(np.array([threshold]))[0],
        ),
        evidence=evidence,
    )


def split_folds(
    labels: Labels, folds: int, seed: int, groups: NDArray[np.str_] | None = None
) -> Iterator[tuple[Labels, Labels]]:
    """Yield (fitted, held out) row numbers of stratified folds; cases of one group stay together."""
    if groups is None or len(np.unique(groups)) == len(groups):
        yield from StratifiedKFold(folds, shuffle=True, random_state=seed).split(np.zeros(len(labels)), labels)
        return
    fold_of_case = assign_folds(groups, np.full(len(labels), ""), {"": labels.astype(np.str_)}, folds, seed)
    for fold in range(folds):
        yield np.flatnonzero(fold_of_case != fold), np.flatnonzero(fold_of_case == fold)


def _out_of_fold_logits(
    x: Matrix,
    labels: Labels,
    settings: HeadFitting,
    seed: int,
    kind: HeadKind,
    groups: NDArray[np.str_] | None,
) -> Matrix:
    """Return the logits of every penalty, weakest fit first: [P, N, C]."""
    logits = np.empty((len(settings.inverse_penalties), len(x), int(labels.max()) + 1))
    for fitted, held_out in split_folds(labels, settings.folds, seed, groups):
        standardiser = fit_standardiser(x[fitted])
        z, unseen = standardiser(x[fitted]), standardiser(x[held_out])
        path = _fit_path(z, labels[fitted], sorted(settings.inverse_penalties), kind)
        for number, (weights, intercept) in enumerate(path):
            logits[number, held_out] = unseen @ weights.T + intercept
    return logits


def _fit_path(
    z: Matrix, labels: Labels, inverse_penalties: Sequence[float], kind: HeadKind
) -> Iterator[tuple[Matrix, Matrix]]:
    """Yield weights (C, F) and intercept (C,) of each penalty; of two classes the first has the row of zeros."""
    balance = "balanced" if kind.weighted else None
    model: LogisticRegression | LinearSVC = LinearSVC(dual=False, class_weight=balance, max_iter=5000)
    if kind.model == "logistic":  # each fit starts from the last one's weights
        model = LogisticRegression(class_weight=balance, max_iter=2000, tol=1e-4, warm_start=True)
    for inverse_penalty in inverse_penalties:
        model.set_params(C=inverse_penalty).fit(z, labels)
        weights, intercept = model.coef_.copy(), model.intercept_.copy()
        if len(weights) == 1:
            weights, intercept = np.concatenate([0 * weights, weights]), np.concatenate([0 * intercept, intercept])
        yield weights, intercept


def _plain(values: Matrix) -> list[float]:
    return [float(f"{value:.{DIGITS}g}") for value in values.tolist()]
