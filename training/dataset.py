"""Phantoms as arrays, made in the same way as those of real cases."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from service.imaging.case import Case
from training.arrays import CaseArrays, Recipe, Row, write_rows
from training.layouts import Layout
from training.phantoms import make_phantom

SITE, TARGET = "phantom", "kind"


@dataclass(frozen=True)
class PhantomRow(Row):
    """What is computed of one phantom, and its lesion's class."""

    kind: str


def build_cohort(seeds: Iterable[int], recipe: Recipe, layout: Layout, path: Path, processes: int) -> CaseArrays:
    """Draw the phantoms of `seeds`, cut their crops into `path` (npy, memory-mapped) and compute radiomics.

    Args:
        seeds: one phantom each, in the cohort's order.
        recipe: what to compute, of one channel.
        layout: of the phantoms.
        path: the file of the crops; overwritten.
        processes: to share the work among; 1 works in this process.

    Returns:
        The phantoms; the kind of lesion is the label of the target `kind`.

    Raises:
        CaseError: a phantom of this layout cannot be described by the recipe.
    """
    chosen = list(seeds)
    work = partial(_draw_row, recipe=recipe, layout=layout)
    rows = [(row.radiomics, row.kind, row.volume_mm3) for row in write_rows(work, chosen, recipe, path, processes)]
    radiomics, kinds, volumes_mm3 = zip(*rows, strict=True)
    names = np.array([f"{SITE}-{seed}" for seed in chosen])
    return CaseArrays(
        crops=np.load(path, mmap_mode="r"),
        radiomics=np.stack(radiomics),
        feature_names=recipe.feature_names,
        case_ids=names,
        patient_ids=names,
        sites=np.full(len(chosen), SITE),
        volumes_mm3=np.array(volumes_mm3),
        labels={TARGET: np.array(kinds)},
    )


def _draw_row(seed: int, recipe: Recipe, layout: Layout) -> PhantomRow:
    phantom = make_phantom(seed, layout=layout)
    row = recipe.compute(Case(None, {recipe.channels[0]: phantom.image}, (phantom.mask,)))
    return PhantomRow(row.crop, row.radiomics, row.volume_mm3, phantom.kind)
