"""Which cases are trained and which are tested on: folds of patients, shares of labels, skewed cohorts."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.intp]
Names = NDArray[np.str_]


def assign_folds(patients: Names, sites: Names, labels: Mapping[str, Names], folds: int, seed: int) -> Rows:
    """Return the fold of every case [N], in 0..folds-1; all cases of a patient share one.

    Patients are dealt out stratum by stratum. A stratum is what a patient has of every target - the rarest of the
    classes that its cases carry, or none - and its site, so that one assignment serves all targets and collections.

    Args:
        patients: [N], unique over all collections.
        sites: [N], where the case comes from.
        labels: by target, [N]; "" where a case has none.
        folds: how many.
        seed: determines the assignment.
    """
    names, owner = np.unique(patients, return_inverse=True)
    strata = _strata(owner, len(names), sites, labels)
    rng = np.random.default_rng([seed, 11])
    order = np.concatenate([rng.permutation(np.flatnonzero(strata == stratum)) for stratum in np.unique(strata)])
    fold_of_patient = np.empty(len(names), np.intp)
    fold_of_patient[order] = np.arange(len(names)) % folds
    return np.asarray(rng.permutation(folds)[fold_of_patient[owner]], np.intp)


def share_of_labels(labels: Names, rows: Rows, share: float, seed: int) -> Rows:
    """Return the rows that keep their label where only a share of each class does, at least two of each.

    Shares are nested: for one seed, the cases of a smaller share are among those of a larger one.
    """
    kept = []
    for label in np.unique(labels[rows]):
        members = np.random.default_rng([seed, 12]).permutation(rows[labels[rows] == label])
        kept.append(members[: max(2, round(share * len(members)))])
    return np.sort(np.concatenate(kept))


def skew(labels: Names, rows: Rows, minority: str, share: float, seed: int) -> Rows:
    """Return the rows without so many of the minority's cases that it makes up `share` of the labelled ones.

    Unlabelled rows stay. Skews are nested, as shares are. Where the minority is rarer than that already, all stay.
    """
    members = np.random.default_rng([seed, 13]).permutation(rows[labels[rows] == minority])
    others = int(((labels[rows] != minority) & (labels[rows] != "")).sum())
    kept = max(2, round(others * share / (1.0 - share)))
    return np.setdiff1d(rows, members[kept:])


def volume_tertiles(volumes_mm3: NDArray[np.float64]) -> Rows:
    """Return 0, 1 or 2 for small, middle and large: [N]."""
    return np.asarray(np.searchsorted(np.quantile(volumes_mm3, [1 / 3, 2 / 3]), volumes_mm3), np.intp)


def _strata(owner: Rows, patients: int, sites: Names, labels: Mapping[str, Names]) -> Names:
    parts = [_rarest(owner, patients, column) for column in (sites, *labels.values()) if (column != "").any()]
    return np.array(["|".join(each) for each in zip(*parts, strict=True)])


def _rarest(owner: Rows, patients: int, column: Names) -> list[str]:
    """Return of every patient the value, rarest over all cases, that one of its cases has; "" where none has any."""
    found = [""] * patients
    values, counts = np.unique(column[column != ""], return_counts=True)
    for value in values[np.argsort(-counts, kind="stable")]:  # the rarer one overwrites
        for patient in np.unique(owner[column == value]):
            found[patient] = str(value)
    return found
