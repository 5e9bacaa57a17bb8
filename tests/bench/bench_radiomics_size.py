"""What radiomics cost against the size of the region: python -m tests.bench.bench_radiomics_size [--plot FILE.png].

Balls of 100 to 20,000,000 voxels of textured noise lie in one synthetic image of 420 x 420 x 420 voxels of 1 mm.
Each is described in a process of its own, its kernels warm, by one thread: the median of five runs, or one run where
it takes more than three seconds. Memory is the peak beyond the loaded image and mask. The exponent is
the slope of the line through the logarithms, from 10,000 voxels on.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from service.features.engine.warm import warm
from tests.bench.bench_radiomics import BANKS, forget_peak, memory, native
from tests.engine.reference import Volume

SIDE = 420
SIZES = (100, 1000, 10_000, 100_000, 1_000_000, 5_000_000, 20_000_000)
PATIENCE = 3.0
FITTED_FROM = 10_000


def ball(voxels: int) -> Volume:
    """Build a ball of about as many voxels."""
    radius = (3 * voxels / (4 * np.pi)) ** (1 / 3)
    k, j, i = (axis - SIDE / 2 + 0.5 for axis in np.ogrid[:SIDE, :SIDE, :SIDE])
    mask = k**2 + j**2 + i**2 <= radius**2
    image = np.random.default_rng(0).integers(-60, 60, (SIDE,) * 3, dtype=np.int16)
    image += (40 * np.sin(k / 5) + 30 * np.cos(j / 7) + 20 * np.sin(i / 11)).astype(np.int16)
    return Volume(image, mask, (1.0, 1.0, 1.0))


def run_one(preset: str, voxels: int) -> dict[str, float]:
    """Measure in this process: voxels, median seconds, peak megabytes."""
    warm()
    volume = ball(voxels)
    forget_peak()
    before, times = memory("VmRSS"), []
    while len(times) < 5 and (not times or times[0] < PATIENCE):
        started = time.perf_counter()
        native(volume, preset, 1)
        times.append(time.perf_counter() - started)
    peak = memory("VmHWM") - before
    return {"voxels": int(volume.mask.sum()), "seconds": statistics.median(times), "megabytes": peak}


def measure(preset: str, voxels: int) -> dict[str, float]:
    """Measure one size in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.bench_radiomics_size", "--one", preset, str(voxels)]
    alone = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    run = subprocess.run(command, capture_output=True, text=True, check=True, env=alone)
    found: dict[str, float] = json.loads(run.stdout)
    return found


def slope(points: list[dict[str, float]], what: str) -> float:
    """Return the exponent of the power law through the larger sizes."""
    fitted = [point for point in points if point["voxels"] >= FITTED_FROM * 0.9]
    logarithms = np.log([[point["voxels"], max(point[what], 1e-3)] for point in fitted])
    return float(np.polyfit(logarithms[:, 0], logarithms[:, 1], 1)[0])


def draw(curves: dict[str, list[dict[str, float]]], path: Path) -> None:
    """Plot seconds and memory against voxels."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for axis, what, unit in zip(axes, ("seconds", "megabytes"), ("seconds, one thread", "peak MB"), strict=True):
        for preset, points in curves.items():
            exponent = slope(points, what)
            x, y = ([point[key] for point in points] for key in ("voxels", what))
            axis.loglog(
                x, np.maximum(y, 0.1 if what == "megabytes" else 0), "o-", label=f"{preset}: ~ n^{exponent:.2f}"
            )
        axis.set(xlabel="voxels of the region", ylabel=unit)
        axis.grid(alpha=0.3)
        axis.legend()
    figure.savefig(path, dpi=90)


def main() -> None:
    """Measure one size, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", nargs=2, metavar=("PRESET", "VOXELS"))
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    if arguments.one:
        sys.stdout.write(json.dumps(run_one(arguments.one[0], int(arguments.one[1]))))
        return
    sys.stdout.write("| preset | voxels | seconds | microseconds per voxel | peak MB |\n" + "|---" * 5 + "|\n")
    curves: dict[str, list[dict[str, float]]] = {preset: [] for preset in BANKS}
    for preset, points in curves.items():
        for voxels in SIZES:
            points.append(found := measure(preset, voxels))
            each = found["seconds"] / found["voxels"] * 1e6
            line = f"| {preset} | {found['voxels']} | {found['seconds']:.4g} | {each:.3g} | {found['megabytes']:.0f} |"
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
        sys.stdout.write(f"{preset}: seconds ~ n^{slope(points, 'seconds'):.2f} from {FITTED_FROM} voxels on\n")
    if arguments.plot:
        draw(curves, arguments.plot)


if __name__ == "__main__":
    main()
