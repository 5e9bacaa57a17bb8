"""The study: for every seed and fold, pretrain by every method in the training folds, embed, fit heads, predict.

Everything that takes long is kept in files named after the digest of what determines them, so that a study that was
stopped goes on where it was, a method added later costs only itself, and equal warm-ups are trained once.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from tqdm import tqdm

from training.loop import DivergedError
from training.pretrain import fix_randomness
from training.representation import REVISION, Representation, learn
from training.study_cases import KeptCases, Rows, StudyCases, open_cases
from training.study_config import Skew, StudyConfig
from training.study_heads import Split, predict_blocks, predict_references

ALL, TRANSDUCTIVE, REFERENCES = "all", "transductive", "references"
POLL_SECONDS = 2.0


@dataclass(frozen=True)
class Unit:
    """What one worker does at a time: rows of one seed on one cohort, in one fold or, transductively, in all."""

    seed: int
    folds: tuple[int, ...]
    cohort: str  # `ALL`, `TRANSDUCTIVE` or the name of a skew
    methods: tuple[str, ...]

    @property
    def sources(self) -> tuple[str, ...]:
        """What predictions come from: the methods, and the references where pretraining does not matter."""
        return self.methods if self.cohort == TRANSDUCTIVE else (REFERENCES, *self.methods)


@dataclass(frozen=True)
class Store:
    """The folder that a study keeps its results in."""

    folder: Path

    def representation(self, key: str) -> Path:
        """The file of embeddings and clusters with this digest."""
        return self.folder / "representations" / f"{key}.npz"

    def warm_up(self, key: str) -> Path:
        """The checkpoint at the end of a plain warm-up."""
        return self.folder / "warm-ups" / f"{key}.pt"

    def predictions(self, cohort: str, source: str, seed: int, fold: int, key: str) -> Path:
        """The file of out-of-fold predictions with this digest."""
        return self.folder / "predictions" / cohort / source / f"seed-{seed}-fold-{fold}-{key}.npz"


@dataclass(frozen=True, eq=False)
class Bench:
    """A study's configuration, cases and store: what its steps need."""

    config: StudyConfig
    cases: StudyCases
    store: Store

    def rows(self, seed: int, fold: int | None, cohort: str) -> tuple[Rows, Rows]:
        """Return the rows that are pretrained on, and those of the test fold; `None` leaves no fold out."""
        everything = np.arange(len(self.cases.arrays))
        if fold is None:
            return everything, everything[:0]
        folds = self.cases.folds(self.config, seed)
        train = self.cases.skewed(everything[folds != fold], self.skew(cohort), seed)
        return train, everything[folds == fold]

    def skew(self, cohort: str) -> Skew | None:
        """Return the skew that a cohort is named after."""
        return next((skew for skew in self.config.study.skews if skew.name == cohort), None)

    def representation_key(self, name: str, seed: int, fold: int | None, cohort: str) -> str:
        """Return the digest of everything that determines the embeddings of a row of the tables."""
        rows, _ = self.rows(seed, fold, cohort)
        method, settings = self.config.row(name).method, self.config.pretraining_of(name)
        document = {
            "revision": REVISION,
            "cases": self.cases.digest,
            "rows": hashlib.sha256(rows.tobytes()).hexdigest(),
            "seed": seed,
            "network": method if method in ("supervised", "untrained") else "self-supervised",
            "encoder": self.config.encoder_of(name).model_dump(),
            "recipe": self.cases.recipe_digest(self.config.row(name).recipe),
            "pretraining": settings.model_dump(),
        }
        if method == "supervised" or settings.balance.grouping == "labels":
            document["targets"] = [target.model_dump() for target in self.config.study.targets]
        if method == "supervised":
            document["shares"] = self.config.study.label_shares
        return _digest(document)

    def warm_up_key(self, name: str, seed: int, fold: int | None, cohort: str) -> str:
        """Return the digest of what determines the plain warm-up: rows that differ in the balance alone share it."""
        settings = self.config.pretraining_of(name).model_dump()
        settings.pop("balance")
        rows, _ = self.rows(seed, fold, cohort)
        rows_digest = hashlib.sha256(rows.tobytes()).hexdigest()
        crops = [self.cases.digest, self.cases.recipe_digest(self.config.row(name).recipe), rows_digest]
        return _digest([REVISION, crops, seed, self.config.encoder_of(name).model_dump(), settings])

    def predictions_path(self, source: str, seed: int, fold: int, cohort: str) -> Path:
        """Return the file of a source's predictions for one test fold."""
        train, test = self.rows(seed, fold, ALL if cohort == TRANSDUCTIVE else cohort)
        whole = cohort == TRANSDUCTIVE
        study = self.config.study
        document = {
            "revision": REVISION,
            "from": self.cases.digest
            if source == REFERENCES
            else self.representation_key(source, seed, None if whole else fold, cohort),
            "train": hashlib.sha256(train.tobytes()).hexdigest(),
            "test": hashlib.sha256(test.tobytes()).hexdigest(),
            "targets": [target.model_dump() for target in study.targets],
            "shares": study.label_shares,
            "every_head": study.every_head,
            "heads": self.config.heads.model_dump(),
        }
        return self.store.predictions(cohort, source, seed, fold, _digest(document))


def plan_units(config: StudyConfig) -> list[Unit]:
    """Return the units, seed by seed, so that a study that has to stop early has whole seeds."""
    study = config.study
    units = []
    for seed in study.seeds:
        for name, methods in [(ALL, study.methods), *((skew.name, skew.methods) for skew in study.skews)]:
            units += [Unit(seed, (fold,), name, tuple(methods)) for fold in range(study.folds)]
        if study.transductive:
            units.append(Unit(seed, tuple(range(study.folds)), TRANSDUCTIVE, tuple(study.transductive)))
    return units


def expected_files(bench: Bench) -> list[Path]:
    """Return every file of predictions that the finished study has."""
    return [
        bench.predictions_path(source, unit.seed, fold, unit.cohort)
        for unit in plan_units(bench.config)
        for source in unit.sources
        for fold in unit.folds
    ]


def run_study(config: StudyConfig, cases: KeptCases, store: Path, processes: int) -> None:
    """Compute what is missing of a study's predictions.

    Args:
        config: what to compare.
        cases: made by `build_cases`.
        store: folder of the results; what lies there already is used.
        processes: workers, each with one thread; 1 works in this process.
    """
    files = expected_files(Bench(config, open_cases(cases), Store(store)))
    with tqdm(total=len(files), desc="study", unit="method", initial=_count(files), smoothing=0.05) as progress:
        if processes == 1:
            for unit in plan_units(config):
                work(unit, config, cases, store)
                _show(progress, files)
            return
        # Fresh processes: forking one that already runs torch's threads can lock up.
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
            pending: set[Future[None]] = {pool.submit(work, unit, config, cases, store) for unit in plan_units(config)}
            try:
                while pending:
                    done, pending = wait(pending, POLL_SECONDS, FIRST_COMPLETED)
                    for future in done:
                        future.result()
                    _show(progress, files)
            finally:
                pool.shutdown(cancel_futures=True)


def work(unit: Unit, config: StudyConfig, cases: KeptCases, store: Path) -> None:
    """Do one unit; what is there already is not done again."""
    fix_randomness(threads=1)
    bench = Bench(config, open_cases(cases), Store(store))
    with threadpool_limits(1):
        for source in unit.sources:
            missing = [
                (fold, path)
                for fold in unit.folds
                if not (path := bench.predictions_path(source, unit.seed, fold, unit.cohort)).exists()
            ]
            if missing:
                _predict_missing(bench, unit, source, missing)


def represent(bench: Bench, name: str, seed: int, fold: int | None, cohort: str) -> Representation:
    """Return the embeddings of all cases by a row's network, trained on the fold's training rows, or from the store.

    Raises:
        DivergedError: the training failed; names the row, seed and fold.
    """
    path = bench.store.representation(bench.representation_key(name, seed, fold, cohort))
    if not path.exists():
        rows, _ = bench.rows(seed, fold, cohort)
        warm_up = bench.store.warm_up(bench.warm_up_key(name, seed, fold, cohort))
        try:
            learned = learn(bench.config, name, bench.cases, rows, seed, warm_up)
        except DivergedError as error:
            raise DivergedError(f"row {name} of {cohort}, seed {seed}, fold {fold}: {error}") from error
        write_arrays(path, learned.arrays())
    with np.load(path) as stored:
        return Representation.from_arrays(dict(stored))


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write a compressed npz that is either whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
        file.flush()
        os.fsync(file.fileno())
    Path(file.name).replace(path)


def _predict_missing(bench: Bench, unit: Unit, source: str, missing: list[tuple[int, Path]]) -> None:
    whole = unit.cohort == TRANSDUCTIVE
    for fold, path in missing:
        split = Split(unit.seed, *bench.rows(unit.seed, fold, ALL if whole else unit.cohort))
        if source == REFERENCES:
            write_arrays(path, predict_references(bench.cases, split, bench.config))
            continue
        representation = represent(bench, source, unit.seed, None if whole else fold, unit.cohort)
        if representation.own:
            write_arrays(path, representation.own_predictions(bench.cases, split, bench.config))
            continue
        fused = np.concatenate([bench.cases.arrays.radiomics, representation.embeddings], axis=1)
        blocks = {"deep": representation.embeddings, "fused": fused}
        write_arrays(path, predict_blocks(blocks, bench.cases, split, bench.config))


def _digest(document: Any) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:16]


def _count(files: list[Path]) -> int:
    return sum(path.exists() for path in files)


def _show(progress: "tqdm[Iterator[None]]", files: list[Path]) -> None:
    progress.update(_count(files) - progress.n)
