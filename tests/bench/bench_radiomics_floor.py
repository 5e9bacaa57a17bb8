"""Where the time goes, how far the slowest kernel is from its floor, and the first request of a fresh process.

    python -m tests.bench.bench_radiomics_floor [--case "60 mm"]

The floor of the recursive Gaussian passes is the larger of two times: their multiplications and additions at the rate
of a loop that does nothing else (no fused operations: digits forbid them), and the bytes that they must read and
write once at the rate of a plain copy. Everything runs on one thread; the best of several runs counts.
"""

import argparse
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from service.features.engine import laplacian
from service.features.engine.compiled import kernel
from service.features.engine.filtering import list_filterings
from service.features.engine.options import FULL
from service.features.engine.region import Region, find_region
from service.features.engine.shape import describe_shape
from service.features.engine.texture import describe_class, prepare_voxels, survey
from service.features.engine.warm import warm
from tests.bench.bench_radiomics import CASES
from tests.engine.reference import Volume

OPERATIONS = 31  # multiplications and additions for each visit of a voxel: forwards 15, backwards 15, their sum
FIRST = """
import time
start = time.perf_counter()
from service.features.engine.bank import describe
from service.features.engine.options import FULL
from service.features.engine.warm import warm
from tests.bench.bench_radiomics import CASES
volume = CASES["brain1"]()
imported = time.perf_counter()
if {warmed}:
    warm()
ready = time.perf_counter()
times = []
for _ in range(4):
    began = time.perf_counter()
    describe(volume.image, volume.mask, volume.spacing, FULL)
    times.append(time.perf_counter() - began)
print(f"{{imported - start:.2f}} {{ready - imported:.2f}} {{times[0]:.3f}} {{min(times[1:]):.3f}}")
"""


def best(run: Callable[[], Any], times: int = 5) -> tuple[float, Any]:
    """Return the shortest time of several, and what was computed."""
    shortest, found = np.inf, None
    for _ in range(times):
        started = time.perf_counter()
        found = run()
        shortest = min(shortest, time.perf_counter() - started)
    return shortest, found


def profile(volume: Volume, region: Region) -> dict[str, float]:
    """Return the seconds of every part of the preset full."""
    seconds: dict[str, float] = defaultdict(float)
    seconds["box"] = best(partial(find_region, volume.mask, volume.spacing))[0]
    seconds["shape"] = best(partial(describe_shape, region))[0]
    for derived in FULL.images:
        options, kind = derived.options, f"filter {type(derived).__name__}"
        surroundings = survey(region, options)
        surroundings.occupied  # noqa: B018  # found once for all images
        for found in list_filterings(volume.image, [region], derived):
            spent, images = best(lambda found=found: [read(region) for _, read in found.run()], 3)
            seconds[kind] += spent
            for values in images:
                spent, voxels = best(partial(prepare_voxels, values, surroundings, options), 3)
                seconds["grey levels"] += spent
                for name in FULL.features:
                    if name != "shape":
                        run = partial(describe_class, name, voxels, surroundings, options)
                        seconds[name] += best(run, 3)[0]
    return seconds


def count_passes(volume: Volume, region: Region, sigma: float) -> tuple[float, float]:
    """Return how many voxels all passes of one sigma visit, and the bytes that they read and write at least."""
    reaches = tuple(laplacian.REACH * sigma / step for step in region.spacing)
    crop, firsts = laplacian._surroundings(volume.image, region, reaches)
    visits, moved = 0.0, 0.0
    for axis in (2, 1, 0):
        shape = list(crop.shape)
        for step in (axis, *(other for other in (2, 1, 0) if other != axis)):
            margins = laplacian._margins(tuple(shape), region, firsts, reaches)  # type: ignore[arg-type]
            away, aside = (margins[other][2] for other in range(3) if other != step)
            near = 1 - away[:, None] - aside[None, :]
            length = region.shape[step]
            lines = np.minimum(shape[step], length + 2 * np.ceil(near * reaches[step]) + 8)[near >= 0]
            visits += lines.sum()
            moved += 4 * lines.sum() + 4 * length * len(lines)
            shape[step] = length
    return visits, moved


@kernel
def _calculate(values: np.ndarray[Any, np.dtype[np.float64]], rounds: int) -> None:
    for _ in range(rounds):
        for k in range(values.shape[0]):
            x = values[k]
            x = ((((x * 0.5 + 0.5) * 0.5 + 0.5) * 0.5 + 0.5) * 0.5 + 0.5) * 0.5 + 0.5
            values[k] = (((x * 0.5 + 0.5) * 0.5 + 0.5) * 0.5 + 0.5) * 0.5 + 0.5


def operations_per_second() -> float:
    """Measure multiplications and additions on one core, without fused ones."""
    values = np.ones(1024)
    _calculate(values, 1)
    return 18 * 1024 * 10_000 / best(lambda: _calculate(values, 10_000))[0]


def bytes_per_second() -> float:
    """Measure a copy, reads and writes together."""
    source, target = np.ones(40_000_000), np.ones(40_000_000)
    return 2 * source.nbytes / best(lambda: np.copyto(target, source))[0]


def report_floor(volume: Volume, region: Region) -> None:
    """Print each sigma's time beside its floors."""
    operations, copied = operations_per_second(), bytes_per_second()
    print(f"one core: {operations / 1e9:.1f} G operations/s, copy {copied / 1e9:.1f} GB/s")
    for sigma in (1.0, 2.0, 3.0):
        visits, moved = count_passes(volume, region, sigma)
        spent, _ = best(partial(laplacian.laplacian, volume.image, region, region.spacing, sigma))
        arithmetic, memory = visits * OPERATIONS / operations, moved / copied
        print(
            f"LoG {sigma} mm: {spent * 1e3:.1f} ms for {visits / 1e6:.1f} M visits "
            f"({spent / visits * 1e9:.2f} ns each); "
            f"arithmetic floor {arithmetic * 1e3:.1f} ms, memory floor {memory * 1e3:.1f} ms: "
            f"{spent / max(arithmetic, memory):.1f} times the floor"
        )


def main() -> None:
    """Print the profile, the floors and the first request."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", default="60 mm", choices=list(CASES))
    arguments = parser.parse_args()
    warm()
    volume = CASES[arguments.case]()
    region = find_region(volume.mask, volume.spacing)
    seconds = profile(volume, region)
    total = sum(seconds.values())
    print(
        f"{arguments.case}, full, one thread: {total:.3f} s: "
        + ", ".join(f"{name} {spent / total:.0%}" for name, spent in sorted(seconds.items(), key=lambda item: -item[1]))
    )
    report_floor(volume, region)
    for warmed in (True, False):
        script = FIRST.format(warmed=warmed)
        run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        imports, warming, first, later = run.stdout.split()
        print(
            f"fresh process, kernels cached, {'warmed' if warmed else 'not warmed'}: imports {imports} s, warming "
            f"{warming} s, first request (brain1, full) {first} s, later ones {later} s"
        )


if __name__ == "__main__":
    main()
