"""Out-of-fold predictions: heads of every kind on every block of features, fitted on labelled training rows alone."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from training.config import HeadFitting
from training.fit_heads import HEAD_KINDS, HeadKind, fit_classifier, usable_features
from training.folds import share_of_labels
from training.metrics import Labels, Matrix
from training.study_cases import Rows, StudyCases
from training.study_config import StudyConfig, Target

MAJORITY, OWN = "majority", "own"


@dataclass(frozen=True, order=True)
class Column:
    """What a prediction was made for and from."""

    target: str
    share: float  # of the training fold's labels
    head: str  # name of a HeadKind, or "own" for a network's own output
    block: str  # radiomics, deep, fused or a trivial reference

    @property
    def key(self) -> str:
        """Name of the column in a file."""
        return f"{self.target}|{self.share:g}|{self.head}|{self.block}"

    @classmethod
    def parse(cls, key: str) -> "Column":
        """Return the column of a name."""
        target, share, head, block = key.split("|")
        return cls(target, float(share), head, block)


@dataclass(frozen=True, eq=False)
class Split:
    """The rows of one fold. `train` may be a skewed cohort; `test` is the whole fold."""

    seed: int
    train: Rows
    test: Rows


def predict_blocks(
    blocks: Mapping[str, Matrix], cases: StudyCases, split: Split, config: StudyConfig
) -> dict[str, NDArray[np.generic]]:
    """Return the probabilities [n, C] of every column, and under `rows|target` which cases [n] they are of.

    Args:
        blocks: features [N, F] of all cases by name; NaN where one is not defined.
        cases: of the study.
        split: what is trained and tested on.
        config: targets, shares of labels, penalties.
    """
    found: dict[str, NDArray[np.generic]] = {}
    for target in config.study.targets:
        labels = cases.labels_of(target)
        test = split.test[labels[split.test] >= 0]
        found[f"rows|{target.name}"] = test
        for share, kinds in _head_plan(config):
            train = labelled(cases, target, split, share)
            for name, block in blocks.items():
                x, unseen = clean(block, train, test)
                groups = cases.arrays.patient_ids[train]
                fit = partial(_predict, x, labels[train], unseen, settings=config.heads, groups=groups, seed=split.seed)
                for kind in kinds:
                    probabilities = fit(kind=kind)
                    found[Column(target.name, share, kind.name, name).key] = probabilities.astype(np.float32)
    return found


def predict_references(cases: StudyCases, split: Split, config: StudyConfig) -> dict[str, NDArray[np.generic]]:
    """Return what radiomics, the volume alone, the source alone, the covariates and the majority predict."""
    arrays = cases.arrays
    blocks = {
        "radiomics": arrays.radiomics,
        "volume": np.log(arrays.volumes_mm3)[:, None],
        "source": one_hot(arrays.sites),
    }
    found = predict_blocks(blocks, cases, split, config)
    for target in config.study.targets:
        for covariate in target.covariates:
            only = config.model_copy(update={"study": config.study.model_copy(update={"targets": [target]})})
            found |= predict_blocks({covariate: one_hot(arrays.covariates[covariate])}, cases, split, only)
        for share, kinds in _head_plan(config):
            # The same in every fold: frequencies of the training folds would rank a fold by what it lacks.
            labels = cases.labels_of(target)
            counts = np.bincount(labels[labels >= 0], minlength=len(target.classes))
            tested = len(found[f"rows|{target.name}"])
            constant = np.tile((counts / counts.sum()).astype(np.float32), (tested, 1))
            found |= {Column(target.name, share, kind.name, MAJORITY).key: constant for kind in kinds}
    return found


def labelled(cases: StudyCases, target: Target, split: Split, share: float) -> Rows:
    """Return the training rows whose label of the target is used."""
    rows = split.train[cases.labels_of(target)[split.train] >= 0]
    if share == 1.0:
        return rows
    return share_of_labels(cases.arrays.labels[target.name], rows, share, split.seed)


def clean(block: Matrix, train: Rows, test: Rows) -> tuple[Matrix, Matrix]:
    """Return training and test features without those that are undefined anywhere or do not vary in training."""
    used = usable_features(block[train]) & np.isfinite(block).all(axis=0)
    if not used.any():  # nothing to learn from: the head predicts the classes' frequencies
        return np.zeros((len(train), 1)), np.zeros((len(test), 1))
    return block[train][:, used], block[test][:, used]


def one_hot(values: NDArray[np.str_]) -> Matrix:
    """Return one column per value: [N, V]."""
    return np.asarray(values[:, None] == np.unique(values)[None, :], np.float64)


def _head_plan(config: StudyConfig) -> Iterator[tuple[float, tuple[HeadKind, ...]]]:
    """Yield each share of the labels and the kinds of heads that are fitted with it."""
    for share in config.study.label_shares:
        yield share, HEAD_KINDS if config.study.every_head and share == 1.0 else HEAD_KINDS[:1]


def _predict(
    x: Matrix,
    labels: Labels,
    unseen: Matrix,
    *,
    settings: HeadFitting,
    groups: NDArray[np.str_],
    seed: int,
    kind: HeadKind,
) -> Matrix:
    folds = min(settings.folds, int(np.bincount(labels).min()))
    fitting = settings.model_copy(update={"folds": folds})
    return fit_classifier(x, labels, fitting, seed, kind=kind, groups=groups).probabilities(unseen)
