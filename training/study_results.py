"""What a study has found: out-of-fold predictions put together over the folds, scored, and compared in pairs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.fit_heads import HEAD_KINDS
from training.metrics import Labels, Matrix, Metric, Predictions, Score, choose_metrics, interval, patient_weights
from training.study import ALL, REFERENCES, TRANSDUCTIVE, Bench, Unit, plan_units
from training.study_cases import Rows
from training.study_config import Target
from training.study_heads import MAJORITY, OWN, Column

EVERYWHERE = ""  # in place of a site: cases of all sites
CONTROLS = {"re-a": "shuffled-re", "se-a": "shuffled-se", "re+se": "shuffled-se"}


@dataclass(frozen=True, order=True)
class Line:
    """One row of a table: predictions of one column, from one source, on one cohort."""

    cohort: str
    column: Column
    source: str

    @property
    def features(self) -> str:
        """What was predicted from, in words."""
        return self.column.block if self.source == REFERENCES else f"{self.column.block}, {self.source}"


@dataclass(frozen=True)
class Difference:
    """A paired difference: of `line` minus that of `other`, in one measure."""

    line: Line
    other: Line
    metric: str
    score: Score

    @property
    def verdict(self) -> str:
        """What the difference amounts to."""
        if not self.score.excludes_zero:
            return "inside the noise"
        return "higher" if self.score.value > 0 else "lower"


@dataclass(frozen=True, eq=False)
class Judged:
    """The cases of one target, at one site or everywhere, and the weights of their resampled patients."""

    target: Target
    rows: Rows
    labels: Labels
    weights: Matrix
    metrics: Mapping[str, Metric]
    patients: int


class Results:
    """The predictions that a store holds.

    Args:
        bench: of the study.

    Attributes:
        seeds: those whose every file is there; where there is none, those whose references are.
        unfinished: sources left out, because a file of those seeds is missing.
    """

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.seeds, self.unfinished = _choose_seeds(bench)
        self._probabilities = dict(_read(bench, self.seeds, self.unfinished))
        self._drawn: dict[tuple[Line, str, str], Matrix] = {}
        self._judged: dict[tuple[str, str], Judged] = {}

    @cached_property
    def lines(self) -> list[Line]:
        """Every line that there are predictions for, in the configuration's order."""
        order = [source for unit in plan_units(self.bench.config) for source in unit.sources]
        return sorted(
            self._probabilities,
            key=lambda line: (line.cohort != ALL, line.cohort, line.column, order.index(line.source)),
        )

    def target(self, name: str) -> Target:
        """Return a target by its name."""
        return next(target for target in self.bench.config.study.targets if target.name == name)

    def judged(self, target: str, site: str = EVERYWHERE) -> Judged:
        """Return the cases that a target's predictions are scored on."""
        if (target, site) not in self._judged:
            self._judged[target, site] = self._gather(self.target(target), site)
        return self._judged[target, site]

    def predictions(self, line: Line, site: str = EVERYWHERE) -> list[Predictions]:
        """Return a line's predictions of all cases (of one site), one per seed."""
        judged = self.judged(line.column.target, site)
        return [Predictions(judged.labels, each[judged.rows]) for each in self._probabilities[line]]

    def drawn(self, line: Line, metric: str, site: str = EVERYWHERE) -> Matrix:
        """Return a measure, averaged over the seeds, on the cases and on every resampling: [1 + draws]."""
        key = (line, metric, site)
        if key not in self._drawn:
            judged = self.judged(line.column.target, site)
            measure = judged.metrics[metric]
            values = [measure(each, judged.weights) for each in self.predictions(line, site)]
            self._drawn[key] = np.asarray(np.mean(values, axis=0))
        return self._drawn[key]

    def score(self, line: Line, metric: str, site: str = EVERYWHERE) -> Score:
        """Return a measure with its interval over patients."""
        return interval(self.drawn(line, metric, site))

    def seed_deviation(self, line: Line, metric: str) -> float:
        """Return the standard deviation of a measure between seeds: other folds, other networks; NaN for one seed."""
        judged = self.judged(line.column.target)
        ones = judged.weights[:1]
        values = [judged.metrics[metric](each, ones)[0] for each in self.predictions(line)]
        return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")

    def difference(self, line: Line, other: Line, metric: str, site: str = EVERYWHERE) -> Difference:
        """Return a paired difference: the same patients are drawn for both."""
        values = self.drawn(line, metric, site) - self.drawn(other, metric, site)
        return Difference(line, other, metric, interval(values))

    def pairs(self) -> Iterator[tuple[Line, Line]]:
        """Yield what the study's questions compare: with plain, with the shuffled control, with radiomics."""
        for line in self.lines:
            if line.source == REFERENCES:
                continue
            for other in self._opponents(line):
                if other in self._probabilities:
                    yield line, other

    def representations(self) -> Iterator[tuple[Unit, str, Path]]:
        """Yield the files of embeddings that are there: unit, method, path."""
        for unit in plan_units(self.bench.config):
            fold = None if unit.cohort == TRANSDUCTIVE else unit.folds[0]
            for method in unit.methods:
                key = self.bench.representation_key(method, unit.seed, fold, unit.cohort)
                path = self.bench.store.representation(key)
                if path.exists():
                    yield unit, method, path

    def _opponents(self, line: Line) -> Iterator[Line]:
        column, cohort = line.column, line.cohort
        if column.head == OWN:
            usual = HEAD_KINDS[0].name
            yield Line(cohort, Column(column.target, column.share, usual, "deep"), "plain")
            yield Line(cohort, Column(column.target, column.share, usual, "radiomics"), REFERENCES)
            return
        method = self.bench.config.row(line.source).method
        for other in dict.fromkeys(["plain", method, CONTROLS.get(method, "plain")]):
            if other != line.source:
                yield Line(cohort, column, other)
        if cohort == TRANSDUCTIVE:
            yield Line(ALL, column, line.source)
        if column.block == "fused":
            references = ALL if cohort == TRANSDUCTIVE else cohort
            for block in ("radiomics", "volume"):
                yield Line(references, Column(column.target, column.share, column.head, block), REFERENCES)
            yield Line(cohort, Column(column.target, column.share, column.head, "deep"), line.source)

    def _gather(self, target: Target, site: str) -> Judged:
        cases = self.bench.cases
        everything = cases.labels_of(target)
        rows = np.flatnonzero(everything >= 0)
        if site != EVERYWHERE:
            rows = rows[cases.arrays.sites[rows] == site]
        patients = cases.arrays.patient_ids[rows]
        labels = everything[rows]
        return Judged(
            target=target,
            rows=rows,
            labels=labels,
            weights=patient_weights(patients, self.bench.config.heads.bootstrap, self.bench.config.seed),
            metrics=choose_metrics(labels, target.classes, target.positive, target.ordered),
            patients=len(np.unique(patients)),
        )


def main_metrics(target: Target) -> list[str]:
    """Return the measures that tables show, by a target's kind."""
    names = ["balanced accuracy", "macro AUC", "minority recall"]
    if target.positive is not None:
        names.append("specificity")
    if target.ordered:
        names.append("quadratic kappa")
    return names


def choose(lines: Sequence[Line], wanted: Callable[[Line], bool]) -> list[Line]:
    """Return the lines that are wanted; the references first, the majority at the end."""
    chosen = [line for line in lines if wanted(line)]
    blocks = ["radiomics", "deep", "fused"]
    rank = {block: number for number, block in enumerate(blocks)} | {MAJORITY: len(blocks) + 1}
    return sorted(chosen, key=lambda line: rank.get(line.column.block, len(blocks)))


def _choose_seeds(bench: Bench) -> tuple[tuple[int, ...], list[tuple[str, str]]]:
    """Return the seeds to report and the (cohort, source) pairs that lack a file of one of them."""
    there: dict[tuple[str, str], set[int]] = {}
    for unit in plan_units(bench.config):
        for source in unit.sources:
            paths = [bench.predictions_path(source, unit.seed, fold, unit.cohort) for fold in unit.folds]
            missing = there.setdefault((unit.cohort, source), set(bench.config.study.seeds))
            if not all(path.exists() for path in paths):
                missing.discard(unit.seed)
    whole = set.intersection(*there.values())
    seeds = whole or there[ALL, REFERENCES]
    chosen = tuple(seed for seed in bench.config.study.seeds if seed in seeds)
    return chosen, [name for name, complete in there.items() if not set(chosen) <= complete]


def _read(
    bench: Bench, seeds: tuple[int, ...], unfinished: list[tuple[str, str]]
) -> Iterator[tuple[Line, list[Matrix]]]:
    """Yield lines and, per seed, their probabilities of all cases: [N, C], NaN where a case has no label."""
    cohorts: dict[str, tuple[str, ...]] = {unit.cohort: unit.sources for unit in plan_units(bench.config)}
    for cohort, sources in cohorts.items():
        for source in sources:
            if (cohort, source) in unfinished or not seeds:
                continue
            per_seed = [_join_folds(bench, cohort, source, seed) for seed in seeds]
            for column in per_seed[0]:
                yield Line(cohort, column, source), [each[column] for each in per_seed]


def _join_folds(bench: Bench, cohort: str, source: str, seed: int) -> dict[Column, Matrix]:
    count = len(bench.cases.arrays)
    joined: dict[Column, Matrix] = {}
    for fold in range(bench.config.study.folds):
        with np.load(bench.predictions_path(source, seed, fold, cohort)) as stored:
            for key in stored.files:
                if key.startswith("rows|"):
                    continue
                column, values = Column.parse(key), np.asarray(stored[key], np.float64)
                whole = joined.setdefault(column, np.full((count, values.shape[1]), np.nan))
                whole[_rows(stored, column)] = values
    return joined


def _rows(stored: Mapping[str, NDArray[np.intp]], column: Column) -> Rows:
    return stored[f"rows|{column.target}"]
