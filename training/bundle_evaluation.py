"""`radfuse-train evaluate-bundle`: what a finished bundle is worth on cases that nothing of it was fitted on.

Every case goes the way of the service: read, described, embedded by the exported file, predicted by the heads.
"""

import csv
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from service.bundle import ModelBundle
from service.errors import CaseError
from service.heads import Prediction
from service.pipeline import extract
from training.arrays import read_record
from training.cases import CaseIndex, CaseRecord, Finding
from training.metrics import (
    Labels,
    Matrix,
    Metric,
    Predictions,
    Score,
    choose_metrics,
    interval,
    macro_auc,
    patient_weights,
)

EVERYWHERE = "all"
DRAWS, SEED = 1000, 0  # of the bootstrap over patients
PREDICTIONS, SCORES = "predictions.csv", "scores.csv"
MAIN = ("balanced accuracy", "macro AUC", "minority recall", "accuracy", "calibration error")


@dataclass(frozen=True)
class Judged:
    """One case's true class of a target, and what the bundle says."""

    case_id: str
    patient_id: str
    site: str
    label: str
    volume_mm3: float
    prediction: Prediction


@dataclass(frozen=True)
class Scored:
    """The measures of one target at one site, or everywhere, with intervals over patients."""

    target: str
    site: str
    counts: dict[str, int]  # cases by class
    patients: int
    unlike: int  # cases that the head calls unlike its training
    scores: dict[str, Score]  # those that are defined on these cases
    volume: Score | None  # area under the curve of the volume alone; of two classes, both there


def judge_cases(
    folder: Path, index: CaseIndex, processes: int = 1, threads: int = 1
) -> tuple[list[Judged], list[Finding]]:
    """Run a bundle on every case that has a label of one of its targets.

    Args:
        folder: of the bundle.
        index: the cases.
        processes: to share the cases among; 1 works in this process.
        threads: of each process.

    Returns:
        A line per case and target, in order, and a finding for every case that was refused or has an unknown class.

    Raises:
        BundleDamaged: the service would not load the bundle.
    """
    targets = {part.target for part in _open(folder, threads).manifest.heads}
    records = [record for record in index.records if targets & set(record.labels)]
    judged, findings = list[Judged](), list[Finding]()
    work = partial(_judge, folder=folder, threads=threads)
    with tqdm(total=len(records), desc="cases", unit="case") as progress:
        for lines, odd in _spread(work, records, processes):
            judged += lines
            findings += odd
            progress.update()
    return judged, findings


def score(judged: Sequence[Judged], ordered: Iterable[str] = ()) -> list[Scored]:
    """Return the measures of every target, everywhere and then at each site where there are several.

    Args:
        judged: of one bundle.
        ordered: targets whose classes have an order, which quadratic kappa then goes by.
    """
    found = []
    for target in dict.fromkeys(one.prediction.target for one in judged):
        lines = [one for one in judged if one.prediction.target == target]
        sites = sorted({one.site for one in lines})
        for site in (EVERYWHERE, *(sites if len(sites) > 1 else ())):
            chosen = [one for one in lines if site in (EVERYWHERE, one.site)]
            found.append(_score(target, site, chosen, target in ordered))
    return found


def write_predictions(path: Path, judged: Sequence[Judged]) -> None:
    """Write a line per case and class: its probability, beside the true class."""
    columns = ["case", "patient", "site", "target", "label", "predicted", "in_distribution", "class", "probability"]
    with path.open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(columns)
        for one in judged:
            said = one.prediction
            start = [one.case_id, one.patient_id, one.site, said.target, one.label, said.label, said.in_distribution]
            table.writerows([*start, name, f"{value:.6g}"] for name, value in said.probabilities.items())


def write_scores(path: Path, scored: Sequence[Scored]) -> None:
    """Write a line per target, site and measure."""
    with path.open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["target", "site", "metric", "value", "low", "high", "cases", "patients"])
        for one in scored:
            volume = {} if one.volume is None else {"AUC of the volume alone": one.volume}
            for name, value in (one.scores | volume).items():
                numbers = [f"{number:.5g}" for number in (value.value, value.low, value.high)]
                table.writerow([one.target, one.site, name, *numbers, sum(one.counts.values()), one.patients])


def describe(one: Scored) -> str:
    """Say in a few lines what was found of a target at a site."""
    counts = ", ".join(f"{name} {count}" for name, count in one.counts.items())
    cases = sum(one.counts.values())
    lines = [f"{one.target}, {one.site}: {cases} cases of {one.patients} patients ({counts})"]
    chosen = [name for name in one.scores if name in MAIN or name.startswith(("recall of", "quadratic"))]
    lines += [f"  {name:<24} {one.scores[name]}" for name in chosen]
    if one.volume is not None:
        lines.append(f"  {'AUC of the volume alone':<24} {one.volume}")
    lines.append(f"  unlike the training: {one.unlike} of {cases}")
    return "\n".join(lines)


def _judge(record: CaseRecord, folder: Path, threads: int) -> tuple[list[Judged], list[Finding]]:
    bundle = _open(folder, threads)
    try:
        region = extract(read_record(record, bundle.manifest.channels), bundle).regions[0]
    except CaseError as error:
        return [], [Finding(record.case_id, error.slug, error.detail)]
    except OSError as error:
        return [], [Finding(record.case_id, "missing-file", f"a file cannot be opened: {error.strerror}")]
    judged, findings = [], []
    said = {prediction.target: prediction for prediction in region.predictions}
    for part in bundle.manifest.heads:
        label = record.labels.get(part.target)
        if label is None:
            continue
        if label not in part.classes:
            detail = f"{part.target} is {label!r}, the bundle knows {', '.join(part.classes)}"
            findings.append(Finding(record.case_id, "unknown-class", detail))
        elif part.target not in said:
            findings.append(Finding(record.case_id, "no-prediction", f"{part.target}: a feature has no finite value"))
        else:
            who = (record.case_id, record.patient_id, record.site)
            judged.append(Judged(*who, label, region.mask.volume_mm3, said[part.target]))
    return judged, findings


@cache
def _open(folder: Path, threads: int) -> ModelBundle:
    return ModelBundle.load(folder, device="cpu", threads=threads)


Work = partial[tuple[list[Judged], list[Finding]]]


def _spread(work: Work, records: Sequence[CaseRecord], processes: int) -> Iterator[tuple[list[Judged], list[Finding]]]:
    if processes == 1:
        yield from map(work, records)
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        yield from pool.map(work, records, chunksize=4)


def _score(target: str, site: str, lines: Sequence[Judged], ordered: bool) -> Scored:
    classes = list(lines[0].prediction.probabilities)
    labels = np.array([classes.index(one.label) for one in lines], np.intp)
    probabilities = np.array([[one.prediction.probabilities[name] for name in classes] for one in lines])
    patients = np.array([one.patient_id for one in lines])
    weights = patient_weights(patients, DRAWS, SEED)
    metrics = choose_metrics(labels, classes, None, ordered)
    predictions = Predictions(labels, probabilities)
    volumes = np.array([one.volume_mm3 for one in lines])
    return Scored(
        target=target,
        site=site,
        counts={name: int((labels == number).sum()) for number, name in enumerate(classes)},
        patients=len(np.unique(patients)),
        unlike=sum(not one.prediction.in_distribution for one in lines),
        scores={
            name: found
            for name, metric in metrics.items()
            if (found := _measure(metric, predictions, weights)) is not None
        },
        volume=_measure(macro_auc, _by_volume(labels, volumes), weights) if len(classes) == 2 else None,
    )


def _measure(metric: Metric, predictions: Predictions, weights: Matrix) -> Score | None:
    """Return a measure; None where these cases do not define it, such as the recall of a class that none has."""
    values = metric(predictions, weights)
    return None if np.isnan(values[0]) else interval(values)


def _by_volume(labels: Labels, volumes: NDArray[np.float64]) -> Predictions:
    """Take the larger lesion for the second class: no probabilities, but all that a rank needs."""
    ranks = np.unique(volumes, return_inverse=True)[1] / len(volumes)
    return Predictions(labels, np.stack([1.0 - ranks, ranks], axis=1))
