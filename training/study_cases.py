"""The cases of a study: its collections joined, kept on disk so that every worker maps the same file, and divided."""

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.arrays import CaseArrays, Recipe, build_arrays
from training.cases import Finding
from training.config import ConfigError
from training.dataset import build_cohort
from training.folds import assign_folds, skew
from training.layouts import LUNG, SMALL
from training.metrics import Labels
from training.readers.catalogue import read_collection
from training.study_config import Phantoms, Skew, StudyConfig, Target

Rows = NDArray[np.intp]
LABEL, COVARIATE = "label:", "covariate:"
CROPS, COLUMNS, NAMES = "crops.npy", "columns.npz", "feature_names.json"


@dataclass(frozen=True, eq=False)
class StudyCases:
    """The joined cases and the digest of everything in them."""

    arrays: CaseArrays
    digest: str

    def labels_of(self, target: Target) -> Labels:
        """Return the class numbers of a target: [N]; -1 where a case has none of its classes."""
        names = self.arrays.labels[target.name]
        return np.array([target.classes.index(name) if name in target.classes else -1 for name in names], np.intp)

    def folds(self, config: StudyConfig, seed: int) -> Rows:
        """Return the fold of every case, one assignment for all targets: [N]."""
        labels = {target.name: self.arrays.labels[target.name] for target in config.study.targets}
        return assign_folds(self.arrays.patient_ids, self.arrays.sites, labels, config.study.folds, seed)

    def joint_labels(self, config: StudyConfig) -> Rows:
        """Return one number per combination of all targets' classes: what the oracle groups by: [N]."""
        columns = [self.labels_of(target) for target in config.study.targets]
        return np.asarray(np.unique(np.stack(columns, axis=1), axis=0, return_inverse=True)[1].ravel(), np.intp)

    def skewed(self, rows: Rows, choice: Skew | None, seed: int) -> Rows:
        """Return the rows that a skewed cohort keeps of `rows`."""
        if choice is None:
            return rows
        return skew(self.arrays.labels[choice.target], rows, choice.minority, choice.share, seed)


def build_cases(config: StudyConfig, data: Path, cache: Path, processes: int) -> tuple[Path, list[Finding]]:
    """Read the collections, compute what is not cached, and return the folder that `open_cases` opens.

    Args:
        config: of the study.
        data: the folder that the sources lie in.
        cache: for the arrays of each collection and of all together.
        processes: to share the work among.

    Raises:
        ConfigError: a collection is not there or cannot be used.
    """
    findings: list[Finding] = []
    parts = [] if config.phantoms is None else [_draw_phantoms(config, config.phantoms, cache, processes)]
    recipe = Recipe(tuple(config.channels), config.preprocessing, config.radiomics)
    for source in config.sources:
        index, odd = read_collection(source.reader, data / source.folder, cache)
        arrays, unusable = build_arrays(index, recipe, cache, processes)
        parts.append(replace(arrays, labels={}) if source.unlabelled else arrays)
        findings += odd + unusable
    joined = parts[0].join(*parts[1:]) if len(parts) > 1 else parts[0]
    for target in config.study.targets:
        known = {*joined.labels} if target.name not in joined.labels else {*joined.covariates}
        if unknown := sorted({target.name} - {*joined.labels}) or sorted(set(target.covariates) - known):
            raise ConfigError(f"target {target.name}: the cases tell nothing of {unknown[0]}, only of {sorted(known)}")
    return _keep(joined, cache), findings


def open_cases(folder: Path) -> StudyCases:
    """Open what `build_cases` has made; the crops are mapped, not read."""
    with np.load(folder / COLUMNS) as stored:
        columns = dict(stored)
    arrays = CaseArrays(
        crops=np.load(folder / CROPS, mmap_mode="r"),
        radiomics=columns["radiomics"],
        feature_names=tuple(json.loads((folder / NAMES).read_text())),
        case_ids=columns["case_ids"],
        patient_ids=columns["patient_ids"],
        sites=columns["sites"],
        volumes_mm3=columns["volumes_mm3"],
        labels=_starting(columns, LABEL),
        covariates=_starting(columns, COVARIATE),
    )
    return StudyCases(arrays, folder.name.removeprefix("cases-"))


def _starting(columns: dict[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    return {name.removeprefix(prefix): column for name, column in columns.items() if name.startswith(prefix)}


def _keep(arrays: CaseArrays, cache: Path) -> Path:
    columns = {
        "radiomics": arrays.radiomics,
        "case_ids": arrays.case_ids,
        "patient_ids": arrays.patient_ids,
        "sites": arrays.sites,
        "volumes_mm3": arrays.volumes_mm3,
    }
    columns |= {LABEL + target: column for target, column in arrays.labels.items()}
    columns |= {COVARIATE + name: column for name, column in arrays.covariates.items()}
    digest = hashlib.sha256(json.dumps(arrays.feature_names).encode())
    for name, column in columns.items():
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(column).data)
    digest.update(np.ascontiguousarray(arrays.crops).data)
    folder = cache / f"cases-{digest.hexdigest()[:16]}"
    if not (folder / NAMES).exists():  # written last
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / CROPS, arrays.crops)
        np.savez(folder / COLUMNS, allow_pickle=False, **columns)
        (folder / NAMES).write_text(json.dumps(arrays.feature_names))
    return folder


def _draw_phantoms(config: StudyConfig, phantoms: Phantoms, cache: Path, processes: int) -> CaseArrays:
    cache.mkdir(parents=True, exist_ok=True)
    seeds = range(phantoms.first_seed, phantoms.first_seed + phantoms.count)
    layout = SMALL if phantoms.small else LUNG
    recipe = Recipe(tuple(config.channels), config.preprocessing, config.radiomics)
    return build_cohort(seeds, recipe, layout, cache / "phantoms.npy", processes)
