"""Radiomics against PyRadiomics: python -m tests.bench.bench_radiomics [--cases ...] [--repeats 5].

Each measurement runs in a process of its own, so that peak memory is its own. Times are medians after one
untimed run; PyRadiomics runs fewer times where it takes longer than `PATIENCE`. Other engines are added as
columns where they are installed (fastrad, nyxus, MIRP); their deviation covers the names they share.
"""

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK

from service.features.engine.bank import describe
from service.features.engine.options import FULL, ORIGINAL, every_feature
from service.features.engine.region import find_region
from service.features.engine.warm import warm
from tests.engine.reference import Deviations, Volume, pyradiomics

DATA = Path(__file__).parents[2] / "../shared/data"
PATIENCE = 20.0  # seconds; a slower engine is timed once
BANKS = {"original": ORIGINAL, "full": FULL}
IMAGES: dict[str, dict[str, Any]] = {
    "original": {"Original": {}},
    "full": {"Original": {}, "LoG": {"sigma": [1.0, 2.0, 3.0]}, "Wavelet": {"wavelet": "coif1"}},
}


def read(image: str, mask: str) -> Volume:
    """Read one case of the shared data."""
    picture, label = SimpleITK.ReadImage(str(DATA / image)), SimpleITK.ReadImage(str(DATA / mask))
    labels = SimpleITK.GetArrayFromImage(label)
    return Volume(SimpleITK.GetArrayFromImage(picture), labels == labels.max(), picture.GetSpacing()[::-1])


def ball(radius_mm: float, spacing: tuple[float, float, float] = (1.0, 0.7, 0.7)) -> Volume:
    """Build a textured ball in an air-like volume of 512 x 512 x 200 voxels."""
    rng = np.random.default_rng(0)
    shape = (200, 512, 512)
    image = rng.integers(-860, -740, shape, dtype=np.int16)
    k, j, i = (
        (axis - size / 2) * step for axis, size, step in zip(np.ogrid[:200, :512, :512], shape, spacing, strict=True)
    )
    inside = k**2 + j**2 + i**2 < radius_mm**2
    tissue = 40 + 40 * np.sin(k / 5) + 30 * np.cos(j / 7) + 0 * i
    image[inside] = (tissue + rng.normal(0, 40, shape))[inside].astype(np.int16)
    return Volume(image, inside, spacing)


CASES: dict[str, Callable[[], Volume]] = {
    "breast1": lambda: read("pyradiomics_cases/breast1_image.nrrd", "pyradiomics_cases/breast1_label.nrrd"),
    "brain2": lambda: read("pyradiomics_cases/brain2_image.nrrd", "pyradiomics_cases/brain2_label.nrrd"),
    "brain1": lambda: read("pyradiomics_cases/brain1_image.nrrd", "pyradiomics_cases/brain1_label.nrrd"),
    "nodule": lambda: read(
        "lidc_nodules/image/LIDC-IDRI-0003_R_2.nii.gz", "lidc_nodules/nodule_mask/LIDC-IDRI-0003_R_2.nii.gz"
    ),
    "IBSI CT": lambda: read(*sorted(map(str, find_ibsi()))),
    "60 mm": lambda: ball(30.0),
    "100 mm": lambda: ball(50.0),
    "organ": lambda: ball(92.5, (2.5, 0.8, 0.8)),
}


def find_ibsi() -> list[Path]:
    """Return image and mask of the IBSI CT phantom, relative to the data."""
    found = (DATA / "ibsi/ibsi_1_ct_radiomics_phantom/nifti").rglob("*.nii.gz")
    return [path.relative_to(DATA) for path in found]


def native(volume: Volume, preset: str, threads: int) -> dict[str, float]:
    """Compute a preset by the engine."""
    return describe(volume.image, volume.mask, volume.spacing, BANKS[preset], threads)


def stock(volume: Volume, preset: str, _: int) -> dict[str, float]:
    """Compute a preset by PyRadiomics."""
    classes = dict.fromkeys(every_feature())
    setting = {"additionalInfo": False}
    return pyradiomics(volume, {"imageType": IMAGES[preset], "featureClass": classes, "setting": setting})


ENGINES: dict[str, tuple[Callable[[Volume, str, int], dict[str, float]], int]] = {
    "PyRadiomics": (stock, 1),
    "1 thread": (native, 1),
    "2 threads": (native, 2),
}


@dataclass(frozen=True)
class Measurement:
    """One engine on one case: median seconds, peak memory of its process beyond the loaded case, values."""

    seconds: float
    megabytes: float
    features: dict[str, float]


def measure(engine: str, case: str, preset: str, repeats: int) -> Measurement:
    """Run this module for one measurement in a process of its own."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.bench.bench_radiomics", "--one", engine, case, preset]
    alone = os.environ | {"OPENBLAS_NUM_THREADS": "1"}  # its threads get in each other's way on matrices this small
    run = subprocess.run([*command, "--repeats", str(repeats)], capture_output=True, text=True, check=True, env=alone)
    return Measurement(**json.loads(run.stdout))


def run_one(engine: str, case: str, preset: str, repeats: int) -> Measurement:
    """Measure in this process."""
    function, threads = ENGINES[engine]
    volume = CASES[case]()
    if function is native:
        warm()
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of what came before
    before = memory("VmRSS")
    started = time.perf_counter()
    features = function(volume, preset, threads)
    times = [time.perf_counter() - started]
    if times[0] < PATIENCE:
        times = []
        for _ in range(repeats):
            started = time.perf_counter()
            function(volume, preset, threads)
            times.append(time.perf_counter() - started)
    return Measurement(statistics.median(times), memory("VmHWM") - before, features)


def memory(what: str) -> float:
    """Return this process's memory in use (VmRSS) or its peak (VmHWM), MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith(what))


def table(cases: list[str], presets: list[str], repeats: int) -> None:
    """Print one row for each case and preset."""
    write(
        "| case | voxels | preset | " + " | ".join(ENGINES) + " | ratio | MB: PyRadiomics / engine | worst deviation |"
    )
    write("|---" * (len(ENGINES) + 6) + "|")
    for case in cases:
        volume = CASES[case]()
        voxels = find_region(volume.mask, volume.spacing).count
        for preset in presets:
            found = {engine: measure(engine, case, preset, repeats) for engine in ENGINES}
            write(row(case, voxels, preset, found))


def row(case: str, voxels: int, preset: str, found: dict[str, Measurement]) -> str:
    """Format one row of the table."""
    expected = found["PyRadiomics"]
    ours = [measured for engine, measured in found.items() if engine != "PyRadiomics"]
    deviations = Deviations()
    for measured in ours:
        deviations.compare(expected.features, measured.features)
    worst = max(deviations.worst.values(), default=0.0)
    seconds = " | ".join(f"{measured.seconds:.4f}" for measured in found.values())
    ratios = " / ".join(f"{expected.seconds / measured.seconds:.0f}x" for measured in ours)
    memory = f"{expected.megabytes:.0f} / {ours[0].megabytes:.0f}"
    verdict = f"{worst:.0e}" if not deviations.wrong else f"{len(deviations.wrong)} WRONG"
    return f"| {case} | {voxels} | {preset} | {seconds} | {ratios} | {memory} | {verdict} |"


def write(line: str) -> None:
    """Print at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """Measure one engine, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--presets", nargs="*", default=list(BANKS), choices=list(BANKS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--one", nargs=3, metavar=("ENGINE", "CASE", "PRESET"))
    arguments = parser.parse_args()
    if arguments.one:
        write(json.dumps(vars(run_one(*arguments.one, arguments.repeats))))
        return
    peers = [name for name in ("fastrad", "nyxus", "mirp") if importlib.util.find_spec(name)]
    write(f"other engines installed: {', '.join(peers) or 'none'}")
    table(arguments.cases, arguments.presets, arguments.repeats)


if __name__ == "__main__":
    main()
