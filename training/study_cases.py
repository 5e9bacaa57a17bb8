"""The cases of a study: its collections joined, kept on disk so that every worker maps the same file, and divided."""

import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.arrays import CaseArrays, Crops, Recipe, build_arrays
from training.cases import Finding
from training.config import ConfigError
from training.dataset import build_cohort
from training.folds import assign_folds, skew
from training.layouts import LUNG, SMALL
from training.metrics import Labels
from training.readers.catalogue import read_collection
from training.study_config import OWN_RECIPE, Phantoms, Skew, StudyConfig, Target

Rows = NDArray[np.intp]
LABEL, COVARIATE = "label:", "covariate:"
CROPS, COLUMNS, NAMES = "crops.npy", "columns.npz", "feature_names.json"


@dataclass(frozen=True)
class KeptCases:
    """Where a study's cases lie: the folder of the joined arrays, and the file of every other recipe's crops.

    The names of folder and files end with the digest of what is in them.
    """

    folder: Path
    recipes: Mapping[str, Path]


@dataclass(frozen=True, eq=False)
class StudyCases:
    """The joined cases and the digest of everything in them.

    `recipes` has the crops [N, C, D, D, D] of the same cases by other recipes, each with its digest.
    """

    arrays: CaseArrays
    digest: str
    recipes: Mapping[str, tuple[Crops, str]] = field(default_factory=dict)

    def crops_of(self, recipe: str) -> Crops:
        """Return the crops of all cases that a recipe cuts: [N, C, D, D, D]."""
        return self.arrays.crops if recipe == OWN_RECIPE else self.recipes[recipe][0]

    def recipe_digest(self, recipe: str) -> str | None:
        """Return the digest of a recipe's crops; None for the study's own, which `digest` covers."""
        return None if recipe == OWN_RECIPE else self.recipes[recipe][1]

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


def build_cases(config: StudyConfig, data: Path, cache: Path, processes: int) -> tuple[KeptCases, list[Finding]]:
    """Read the collections, compute what is not cached, and return where it lies, for `open_cases`.

    Radiomics are computed once, whatever the recipes. A case that one recipe cannot cut is in no row.

    Args:
        config: of the study.
        data: the folder that the sources lie in.
        cache: for the arrays of each collection and of all together.
        processes: to share the work among.

    Raises:
        ConfigError: a collection is not there or cannot be used.
    """
    joined, findings = _gather(config, OWN_RECIPE, data, cache, processes)
    others: dict[str, CaseArrays] = {}
    for name in config.recipes:
        others[name], unusable = _gather(config, name, data, cache, processes)
        findings += [finding for finding in unusable if finding not in findings]
    common = reduce(np.intersect1d, [other.case_ids for other in others.values()], joined.case_ids)
    joined = _restrict(joined, common)
    for target in config.study.targets:
        known = {*joined.labels} if target.name not in joined.labels else {*joined.covariates}
        if unknown := sorted({target.name} - {*joined.labels}) or sorted(set(target.covariates) - known):
            raise ConfigError(f"target {target.name}: the cases tell nothing of {unknown[0]}, only of {sorted(known)}")
    recipes = {name: _keep_crops(_restrict(other, common).crops, cache) for name, other in others.items()}
    return KeptCases(_keep(joined, cache), recipes), findings


def open_cases(kept: KeptCases) -> StudyCases:
    """Open what `build_cases` has made; the crops are mapped, not read."""
    with np.load(kept.folder / COLUMNS) as stored:
        columns = dict(stored)
    arrays = CaseArrays(
        crops=np.load(kept.folder / CROPS, mmap_mode="r"),
        radiomics=columns["radiomics"],
        feature_names=tuple(json.loads((kept.folder / NAMES).read_text())),
        case_ids=columns["case_ids"],
        patient_ids=columns["patient_ids"],
        sites=columns["sites"],
        volumes_mm3=columns["volumes_mm3"],
        labels=_starting(columns, LABEL),
        covariates=_starting(columns, COVARIATE),
    )
    recipes = {
        name: (np.load(path, mmap_mode="r"), path.stem.removeprefix("crops-")) for name, path in kept.recipes.items()
    }
    return StudyCases(arrays, kept.folder.name.removeprefix("cases-"), recipes)


def _gather(
    config: StudyConfig, recipe: str, data: Path, cache: Path, processes: int
) -> tuple[CaseArrays, list[Finding]]:
    """Return all collections' cases by one recipe; radiomics by the study's own alone."""
    radiomics = config.radiomics if recipe == OWN_RECIPE else None
    asked = Recipe(tuple(config.channels), config.preprocessing_of(recipe), radiomics)
    parts, findings = list[CaseArrays](), list[Finding]()
    if config.phantoms is not None:
        parts.append(_draw_phantoms(config.phantoms, asked, cache / f"phantoms-{recipe or 'own'}.npy", processes))
    for source in config.sources:
        index, odd = read_collection(source.reader, data / source.folder, cache)
        arrays, unusable = build_arrays(index, asked, cache, processes)
        parts.append(replace(arrays, labels={}) if source.unlabelled else arrays)
        findings += odd + unusable
    return parts[0].join(*parts[1:]) if len(parts) > 1 else parts[0], findings


def _restrict(arrays: CaseArrays, case_ids: NDArray[np.str_]) -> CaseArrays:
    """Return the cases of these ids, in the order they are in."""
    return arrays if len(arrays) == len(case_ids) else arrays.subset(np.isin(arrays.case_ids, case_ids))


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


def _keep_crops(crops: Crops, cache: Path) -> Path:
    path = cache / f"crops-{hashlib.sha256(np.ascontiguousarray(crops).data).hexdigest()[:16]}.npy"
    if not path.exists():
        with tempfile.NamedTemporaryFile(dir=cache, suffix=".part", delete=False) as file:
            np.save(file, crops)
        Path(file.name).replace(path)
    return path


def _draw_phantoms(phantoms: Phantoms, recipe: Recipe, path: Path, processes: int) -> CaseArrays:
    path.parent.mkdir(parents=True, exist_ok=True)
    seeds = range(phantoms.first_seed, phantoms.first_seed + phantoms.count)
    return build_cohort(seeds, recipe, SMALL if phantoms.small else LUNG, path, processes)
