"""A cohort as arrays: crops in a memory-mapped file, radiomics, kinds and volumes, made with the service's own code."""

from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from service.features.radiomics import compute_radiomics
from service.features.vector import FeatureVector
from service.imaging.preprocess import cut_crop
from service.manifest import Preprocessing
from service.radiomics_settings import PRESETS
from training.layouts import Layout
from training.phantoms import Phantom, make_phantom

Crops = NDArray[np.float32]


@dataclass(frozen=True)
class Recipe:
    """What is computed of every phantom: the encoder's crop and the radiomics vector."""

    channel: str
    preprocessing: Preprocessing
    radiomics: str

    def cut(self, phantom: Phantom) -> Crops:
        """Return the crop [C, D, D, D]."""
        return cut_crop({self.channel: phantom.image}, phantom.mask, [self.channel], self.preprocessing)

    def describe(self, phantom: Phantom) -> FeatureVector:
        """Return the radiomics of the phantom."""
        return compute_radiomics(phantom.image, phantom.mask, PRESETS[self.radiomics])


@dataclass(frozen=True)
class Cohort:
    """N cases; rows of all arrays belong together.

    `crops` is [N, C, D, D, D] float32, `radiomics` [N, F] float64 with `names` (F), `volumes_mm3` [N].
    """

    crops: Crops
    radiomics: NDArray[np.float64]
    names: tuple[str, ...]
    kinds: NDArray[np.str_]
    volumes_mm3: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.kinds)


def build_cohort(seeds: Iterable[int], recipe: Recipe, layout: Layout, path: Path, processes: int) -> Cohort:
    """Draw the phantoms of `seeds`, cut their crops into `path` (npy, memory-mapped) and compute radiomics.

    Args:
        seeds: one phantom each, in the cohort's order.
        recipe: what to compute.
        layout: of the phantoms.
        path: the file of the crops; overwritten.
        processes: to share the work among; 1 works in this process.
    """
    chosen = list(seeds)
    edge = recipe.preprocessing.crop_voxels
    shape = (len(chosen), 1 + int(recipe.preprocessing.mask_channel), edge, edge, edge)
    crops = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    rows: list[tuple[FeatureVector, str, float]] = []
    work = partial(_make_case, recipe=recipe, layout=layout)
    with tqdm(total=len(chosen), desc="phantoms", unit="case") as progress:
        for crop, vector, kind, volume_mm3 in _spread(work, chosen, processes):
            crops[len(rows)] = crop
            rows.append((vector, kind, volume_mm3))
            progress.update()
    crops.flush()
    return Cohort(
        crops=np.load(path, mmap_mode="r"),
        radiomics=np.stack([vector.values for vector, _, _ in rows]),
        names=rows[0][0].names,
        kinds=np.array([kind for _, kind, _ in rows]),
        volumes_mm3=np.array([volume for _, _, volume in rows]),
    )


def _make_case(seed: int, recipe: Recipe, layout: Layout) -> tuple[Crops, FeatureVector, str, float]:
    phantom = make_phantom(seed, layout=layout)
    return recipe.cut(phantom), recipe.describe(phantom), phantom.kind, phantom.mask.volume_mm3


def _spread(
    work: "partial[tuple[Crops, FeatureVector, str, float]]", seeds: list[int], processes: int
) -> Iterable[tuple[Crops, FeatureVector, str, float]]:
    if processes == 1:
        yield from map(work, seeds)
        return
    # Fresh processes: forking one that already runs torch's threads can lock up.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        yield from pool.map(work, seeds, chunksize=8)
