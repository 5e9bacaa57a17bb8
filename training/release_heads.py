"""The heads of a release: fitted on the frozen fused features, judged beside what knows less, checked as written."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from service.bundle import fused_feature_names
from service.features.encoder import Encoder as OnnxEncoder
from service.features.vector import FeatureVector
from service.heads import Head, HeadDocument
from service.radiomics_settings import PRESETS
from training.arrays import CaseArrays
from training.bundle import CARD
from training.config import ConfigError
from training.export import ExportError
from training.fit_heads import (
    fit_classifier,
    fit_novelty,
    make_document,
    novelty_threshold,
    out_of_fold_probabilities,
    usable_features,
)
from training.metrics import Labels, Matrix, Metric, Predictions, Score, choose_metrics, interval, patient_weights
from training.release_config import ReleaseConfig
from training.study_config import Target

FUSED = "fused"


@dataclass(frozen=True)
class Scores:
    """The measures of one set of features for one target, by name, with intervals over patients."""

    features: str
    measures: Mapping[str, Score]


@dataclass(frozen=True)
class HeadFindings:
    """What a head rests on and what it can do."""

    target: Target
    counts: Mapping[str, int]  # cases by class
    patients: int
    inverse_penalty: float
    temperature: float
    novelty_threshold: float
    novelty_fired: Mapping[str, tuple[int, int]]  # by site: how often out of how many, the head's own cases and others
    rows: tuple[Scores, ...]


def embed_exported(arrays: CaseArrays, encoder: Path, config: ReleaseConfig) -> Matrix:
    """Embed every case by the exported file, one crop at a time as the service does: [N, dimension]."""
    session = OnnxEncoder(encoder, config.encoder.dimension, device="cpu", threads=config.threads)
    return np.stack([session.embed(np.array(crop[np.newaxis]))[0] for crop in arrays.crops]).astype(np.float64)


def fit_head(
    target: Target, arrays: CaseArrays, fused: Matrix, config: ReleaseConfig
) -> tuple[HeadDocument, HeadFindings]:
    """Fit one target's head on the fused features [N, F] of the cases that have a label of it."""
    rows, labels = labelled(target, arrays, config)
    used = usable_features(fused[rows])
    x, patients = fused[rows][:, used], arrays.patient_ids[rows]
    classifier = fit_classifier(x, labels, config.heads, config.seed, groups=patients)
    space = fit_novelty(x, config.heads.novelty_variance)
    threshold = novelty_threshold(x, labels, config.heads, config.seed, groups=patients)
    names = fused_feature_names(PRESETS[config.radiomics], config.channels, config.encoder.dimension)
    document = make_document(
        classifier,
        (space, threshold),
        target=target.name,
        classes=target.classes,
        features=[name for name, kept in zip(names, used, strict=True) if kept],
        evidence=f"models/{config.release.name}/{CARD}",
    )
    finite = np.isfinite(fused[:, used]).all(axis=1)
    fired = space.scores(fused[finite][:, used]) > threshold
    findings = HeadFindings(
        target=target,
        counts={name: int((labels == number).sum()) for number, name in enumerate(target.classes)},
        patients=len(np.unique(patients)),
        inverse_penalty=classifier.inverse_penalty,
        temperature=classifier.temperature,
        novelty_threshold=threshold,
        novelty_fired={
            str(site): (int(fired[arrays.sites[finite] == site].sum()), int((arrays.sites[finite] == site).sum()))
            for site in np.unique(arrays.sites)
        },
        rows=tuple(compare_features(target, arrays, fused, config)),
    )
    return document, findings


def labelled(target: Target, arrays: CaseArrays, config: ReleaseConfig) -> tuple[Labels, Labels]:
    """Return the rows that have a label of the target, and their class numbers.

    Raises:
        ConfigError: a class has fewer patients than there are folds, or a label is none of the classes.
    """
    column = arrays.labels.get(target.name, np.full(len(arrays), ""))
    rows = np.flatnonzero(column != "")
    if strangers := sorted(set(column[rows]) - set(target.classes)):
        raise ConfigError(f"target {target.name}: the cases have the class {strangers[0]!r}, which it does not name")
    labels = np.array([target.classes.index(name) for name in column[rows]], np.intp)
    for number, name in enumerate(target.classes):
        patients = len(np.unique(arrays.patient_ids[rows][labels == number]))
        folds = config.heads.folds
        if patients - math.ceil(patients / folds) < folds:
            raise ConfigError(
                f"target {target.name}: {patients} patients of class {name} are too few for {folds} folds within "
                f"{folds} folds"
            )
    return rows, labels


def compare_features(target: Target, arrays: CaseArrays, fused: Matrix, config: ReleaseConfig) -> list[Scores]:
    """Score radiomics, embedding, both, and what knows next to nothing, by folds of patients.

    The encoder has seen every crop, without labels; the study's report has pretraining inside the folds.
    """
    rows, labels = labelled(target, arrays, config)
    blocks = _blocks(arrays, fused)
    weights = patient_weights(arrays.patient_ids[rows], config.heads.bootstrap, config.seed)
    metrics = choose_metrics(labels, target.classes, target.positive, target.ordered)
    table = []
    for name, features in blocks.items():
        x = features[rows][:, usable_features(features[rows])]
        if not x.shape[1]:  # the source, where all labelled cases come from one
            continue
        probabilities = out_of_fold_probabilities(x, labels, config.heads, config.seed, arrays.patient_ids[rows])
        table.append(_score(name, Predictions(labels, probabilities), metrics, weights))
    majority = np.tile(np.bincount(labels, minlength=len(target.classes)) / len(labels), (len(labels), 1))
    table.append(_score("majority class", Predictions(labels, majority), metrics, weights))
    return table


def check_head(document: HeadDocument, fused: Matrix, config: ReleaseConfig) -> None:
    """Prove on real cases that the written head says what its parts say, digit for digit.

    Raises:
        ExportError: the head's probabilities do not sum to one, or change when the document is read back.
    """
    names = fused_feature_names(PRESETS[config.radiomics], config.channels, config.encoder.dimension)
    read_back = Head(HeadDocument.model_validate_json(document.model_dump_json()))
    head = Head(document)
    for row in np.flatnonzero(np.isfinite(fused).all(axis=1))[:5]:
        vector = FeatureVector(names, fused[row])
        said, again = head.predict(vector), read_back.predict(vector)
        if said != again or abs(sum(said.probabilities.values()) - 1) > 1e-9:
            raise ExportError(f"the head of {document.target} says {said.probabilities}, read back {again}")


def _blocks(arrays: CaseArrays, fused: Matrix) -> dict[str, Matrix]:
    sites = np.unique(arrays.sites)
    return {
        "radiomics": fused[:, : arrays.radiomics.shape[1]],
        "deep": fused[:, arrays.radiomics.shape[1] :],
        FUSED: fused,
        "volume only": np.log(arrays.volumes_mm3)[:, None],
        "data source only": (arrays.sites[:, None] == sites[None, :]).astype(np.float64),
    }


def _score(name: str, predictions: Predictions, metrics: Mapping[str, Metric], weights: Matrix) -> Scores:
    return Scores(name, {measure: interval(metric(predictions, weights)) for measure, metric in metrics.items()})
