"""Ten regions in one request against ten requests of one region each, preset full.

    python tests/bench/bench_many.py [--repeats N] [--threads N]

Prints the seconds of both (the best of all repeats), their ratio, how many LoG passes the groups need, and whether
all values are equal bit for bit. Every repeat lays out its masks anew: what is kept with a mask counts.
"""

import argparse
import sys
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from service.features.engine.filtering import list_filterings
from service.features.engine.options import LaplacianOfGaussian
from service.features.engine.region import find_region
from service.features.engine.run import compute, compute_many
from service.features.engine.warm import warm
from service.imaging.case import Image, Mask
from service.imaging.geometry import Geometry
from service.radiomics_settings import PRESETS

SHAPE = (256, 256, 120)
SPACING_MM = (0.7, 0.7, 1.25)
GEOMETRY = Geometry(SHAPE, np.diag([*SPACING_MM, 1.0]))
Bools = npt.NDArray[np.bool_]


def main() -> None:
    """Measure the scenes named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    warm()
    image = thorax()
    for name, build in SCENES.items():
        measure(name, image, build(), arguments.repeats, arguments.threads)


def measure(name: str, image: Image, regions: list[Bools], repeats: int, threads: int) -> None:
    """Print one line."""
    settings = PRESETS["full"]
    ways: dict[str, Callable[[list[Mask]], list[dict[str, float]]]] = {
        "single": lambda masks: [compute(image, mask, settings, threads) for mask in masks],
        "many": lambda masks: compute_many(image, masks, settings, threads),
    }
    seconds, found = dict.fromkeys(ways, np.inf), {}
    for _ in range(repeats):
        for way, run in ways.items():
            masks = [Mask(region, GEOMETRY, str(index)) for index, region in enumerate(regions)]
            started = time.perf_counter()
            found[way] = run(masks)
            seconds[way] = min(seconds[way], time.perf_counter() - started)
    same = all(list(one.values()) == list(two.values()) for one, two in zip(*found.values(), strict=True))
    sys.stdout.write(
        f"{name}: {len(regions)} regions of {int(np.median([region.sum() for region in regions]))} voxels, "
        f"{threads} threads: single {seconds['single']:.3f} s, together {seconds['many']:.3f} s, "
        f"ratio {seconds['many'] / seconds['single']:.2f}, {count_groups(image, regions)}, equal bits: {same}\n"
    )


def count_groups(image: Image, regions: list[Bools]) -> str:
    """Say in how many groups the LoG is filtered."""
    found = [find_region(region.T, SPACING_MM[::-1]) for region in regions]
    counts = [
        len(list(list_filterings(image.voxels.T, found, LaplacianOfGaussian((sigma,))))) for sigma in (1.0, 2.0, 3.0)
    ]
    return f"LoG groups {counts}"


def thorax() -> Image:
    """Build a CT-like volume: lungs in a body, and noise."""
    i, j, k = np.ogrid[tuple(slice(-1, 1, size * 1j) for size in SHAPE)]
    voxels = np.where(i**2 + (1.3 * j) ** 2 < 0.9, 40.0, -1000.0) + 0 * k
    for side in (-0.42, 0.42):
        voxels[((i - side) / 0.34) ** 2 + (j / 0.5) ** 2 + (k / 0.95) ** 2 < 1] = -820
    voxels += np.random.default_rng(3).normal(0, 35, SHAPE)
    for index, region in enumerate(nodules()):
        voxels[region] += 700 + 20 * index
    return Image(voxels.astype("int16"), GEOMETRY)


def ball(centre: npt.ArrayLike, radius_mm: float) -> Bools:
    """Build a ball around a voxel."""
    i, j, k = (
        (axis - middle) * step
        for axis, middle, step in zip(
            np.ogrid[tuple(slice(0, size) for size in SHAPE)], np.asarray(centre), SPACING_MM, strict=True
        )
    )
    inside: Bools = i**2 + j**2 + k**2 < radius_mm**2
    return inside


def nodules() -> list[Bools]:
    """Build ten nodules all over both lungs, 3 to 8 mm in radius."""
    rng = np.random.default_rng(5)
    lower, upper = np.array([45, 80, 20]), np.array([210, 175, 100])
    return [ball(rng.uniform(lower, upper), radius) for radius in np.linspace(3, 8, 10)]


def cluster() -> list[Bools]:
    """Build ten nodules in one lobe."""
    rng = np.random.default_rng(6)
    return [ball(rng.uniform([60, 100, 50], [90, 130, 70]), radius) for radius in np.linspace(3, 8, 10)]


def parts() -> list[Bools]:
    """Build ten parts of one organ: an ellipsoid, and what lies around each of nine places in it."""
    organ, rng = ball((80, 128, 60), 24), np.random.default_rng(7)
    return [organ] + [organ & ball(rng.uniform([60, 105, 48], [100, 150, 72]), 12) for _ in range(9)]


def shells() -> list[Bools]:
    """Build a nodule, dilated and eroded ten times by half a millimetre: nested regions."""
    return [ball((80, 128, 60), radius) for radius in np.linspace(6, 10.5, 10)]


SCENES: dict[str, Callable[[], list[Bools]]] = {
    "nodules in both lungs": nodules,
    "nodules in one lobe": cluster,
    "parts of one organ": parts,
    "nested margins": shells,
}

if __name__ == "__main__":
    main()
