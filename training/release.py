"""Release a bundle on real cases: arrays, pretraining, export, a head for every target, the card."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import yaml
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from service.bundle import ModelBundle, fused_feature_names
from service.features.encoder import Encoder as OnnxEncoder
from service.features.vector import FeatureVector
from service.heads import Head, HeadDocument
from service.manifest import FILE_NAME, EncoderPart, HeadPart, Manifest
from service.radiomics_settings import PRESETS
from training.arrays import CaseArrays, Recipe, build_arrays
from training.bundle import CARD, ENCODER, RADIOMICS, file_part, provenance, replace_folder
from training.cases import CaseIndex, Finding
from training.config import ConfigError, Experiment
from training.export import ExportError, export_encoder
from training.fit_heads import (
    fit_classifier,
    fit_novelty,
    make_document,
    novelty_threshold,
    out_of_fold_probabilities,
    usable_features,
)
from training.loop import Epoch, Run
from training.metrics import Labels, Matrix, Metric, Predictions, Score, choose_metrics, interval, patient_weights
from training.pretrain import pretrain
from training.readers.catalogue import read_collection
from training.release_card import write_release_card
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


@dataclass(frozen=True)
class Findings:
    """Everything the card reports."""

    cases: int
    sites: Mapping[str, int]
    unusable: tuple[Finding, ...]
    epochs: tuple[Epoch, ...]
    parity: float
    heads: tuple[HeadFindings, ...]


def release(config: ReleaseConfig, data: Path, out: Path, cache: Path, processes: int = 2) -> ModelBundle:
    """Make the bundle of `config` in the folder `out` and return it, loaded as the service does.

    A bundle already in `out` stays in use until the new one has been loaded and checked. Other files there, such as
    a report, stay.

    Args:
        config: what to make.
        data: the folder that the configuration's sources lie in.
        out: the bundle's folder, named after the bundle.
        cache: for crops and radiomics, which are computed once.
        processes: to share the cases among.

    Raises:
        ConfigError: `out` is not named after the bundle, or a target has too few cases.
        ExportError: the exported encoder, or a head, is not what was trained.
        BundleDamaged: the service refuses the finished bundle.
    """
    if out.name != config.release.name:
        raise ConfigError(f"the folder is named {out.name}, the bundle {config.release.name}")
    arrays, unusable = gather(config, data, cache, processes)
    with TemporaryDirectory(prefix="radfuse-") as work, threadpool_limits(config.threads):
        made = Path(work) / out.name
        made.mkdir()
        trained = pretrain(
            arrays.crops,
            config.encoder,
            config.pretraining,
            config.seed,
            run=Run(threads=config.threads, progress=True),
            image_channels=len(config.channels),
        )
        part = export_encoder(trained.encoder, made / ENCODER, np.array(arrays.crops[:5]))
        fused = np.concatenate([arrays.radiomics, embed_exported(arrays, made / ENCODER, config)], axis=1)
        heads = [fit_head(target, arrays, fused, config) for target in config.targets]
        for document, _ in heads:
            (made / head_file(document.target)).write_text(document.model_dump_json(indent=1) + "\n")
            check_head(document, fused, config)
        (made / RADIOMICS).write_text(yaml.safe_dump(PRESETS[config.radiomics].document(), sort_keys=False))
        findings = Findings(
            cases=len(arrays),
            sites=_count(arrays.sites),
            unusable=tuple(unusable),
            epochs=tuple(trained.epochs),
            parity=part.parity_relative,
            heads=tuple(found for _, found in heads),
        )
        (made / CARD).write_text(write_release_card(config, findings))
        documents = [document for document, _ in heads]
        (made / FILE_NAME).write_text(write_manifest(config, made, part, documents).model_dump_json(indent=1) + "\n")
        ModelBundle.load(made, device="cpu")
        replace_folder(made, out)
    return ModelBundle.load(out, device="cpu")


def gather(config: Experiment, data: Path, cache: Path, processes: int) -> tuple[CaseArrays, list[Finding]]:
    """Read every source and compute its crops and radiomics: all usable cases, and what the others lack."""
    recipe = Recipe(tuple(config.channels), config.preprocessing, config.radiomics)
    parts, findings = [], []
    for source in config.sources:
        index, odd = read_collection(source.reader, data / source.folder, cache)
        if source.unlabelled:
            index = CaseIndex(index.name, tuple(replace(record, labels={}) for record in index.records))
        arrays, refused = build_arrays(index, recipe, cache, processes)
        parts.append(arrays)
        findings += [*odd, *refused]
    return parts[0].join(*parts[1:]) if len(parts) > 1 else parts[0], findings


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


def write_manifest(config: ReleaseConfig, made: Path, encoder: EncoderPart, heads: list[HeadDocument]) -> Manifest:
    """Return the manifest of the files in `made`."""
    about = config.release
    return Manifest(
        schema_version=1,
        name=about.name,
        version=about.version,
        summary=about.summary,
        demonstration=about.demonstration,
        licence=about.licence,
        channels=config.channels,
        modality=about.modality,
        preprocessing=config.preprocessing,
        encoder=encoder,
        radiomics=file_part(made / RADIOMICS),
        heads=[
            HeadPart(**file_part(made / head_file(head.target)).model_dump(), target=head.target, classes=head.classes)
            for head in heads
        ],
        card=file_part(made / CARD),
        feature_names=list(fused_feature_names(PRESETS[config.radiomics], config.channels, config.encoder.dimension)),
        trained_with=provenance(config.sha256()),
    )


def head_file(target: str) -> str:
    """Return the file name of a target's head."""
    return f"head-{target}.json"


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


def _count(values: np.ndarray[tuple[int], np.dtype[np.str_]]) -> dict[str, int]:
    names, counts = np.unique(values, return_counts=True)
    return {str(name): int(count) for name, count in zip(names, counts, strict=True)}
