"""Radiomics against PyRadiomics and other engines: python -m tests.bench.bench_radiomics [--cases ...] [--repeats 5].

    --peer fastrad=/environments/fastrad/bin/python     another engine (`peers.py`), by its own interpreter

Each measurement runs in a process of its own, so that peak memory is its own. Times are medians after one
untimed run; an engine that takes longer than `PATIENCE` is timed once, one that takes longer than `--limit` given up.
Deviations are the largest relative ones from PyRadiomics, over the features that both have by the same name.
"""

import argparse
import ctypes
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK

from service.features.engine.bank import describe
from service.features.engine.options import FULL, ORIGINAL, every_feature
from service.features.engine.region import find_region
from service.features.engine.warm import warm
from tests.engine.reference import ABSOLUTE, Deviations, Volume, pyradiomics

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


def lung(label: str) -> Volume:
    """Lay PyRadiomics' mask of a lung tumour on a real lung CT of the mask's 512 x 512 x N voxels.

    PyRadiomics' own images of lung1 and lung2 are not in the data. The IBSI CT phantom stands in, mirrored outwards
    to the mask's grid, so that the phantom's tumour lies under the mask.
    """
    reference = SimpleITK.ReadImage(str(DATA / f"pyradiomics_cases/{label}_label.nrrd"))
    mask = SimpleITK.GetArrayFromImage(reference) > 0
    phantom = CASES["IBSI CT"]()
    wanted, has = (np.argwhere(region).mean(axis=0).astype(int) for region in (mask, phantom.mask))
    rows = [
        (np.arange(size) - to + source) % (2 * length)
        for size, to, source, length in zip(mask.shape, wanted, has, phantom.image.shape, strict=True)
    ]
    mirrored = [np.minimum(row, 2 * n - 1 - row) for row, n in zip(rows, phantom.image.shape, strict=True)]
    return Volume(phantom.image[np.ix_(*mirrored)], mask, reference.GetSpacing()[::-1])


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
    "lung1": lambda: lung("lung1"),
    "lung2": lambda: lung("lung2"),
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

    seconds: float = math.nan
    megabytes: float = math.nan
    features: dict[str, float] = field(default_factory=dict)
    reason: str = ""


def measure(engine: str, case: str, preset: str, repeats: int) -> Measurement:
    """Run this module for one measurement in a process of its own."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.bench.bench_radiomics", "--one", engine, case, preset]
    alone = os.environ | {"OPENBLAS_NUM_THREADS": "1"}  # its threads get in each other's way on matrices this small
    run = subprocess.run([*command, "--repeats", str(repeats)], capture_output=True, text=True, check=True, env=alone)
    return Measurement(**json.loads(run.stdout))


def measure_peer(peer: tuple[str, str], folder: Path, preset: str, repeats: int, limit: float) -> Measurement:
    """Run another engine by its own interpreter."""
    name, python = peer
    answer = folder / f"{name}.json"
    script = str(Path(__file__).with_name("peers.py"))
    command = [python, "-W", "ignore", script, name, str(folder), preset, str(repeats), str(answer)]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        return Measurement(reason=f"more than {limit:.0f} s")
    if run.returncode:
        return Measurement(reason=f"failed: {(run.stderr.strip() or str(run.returncode)).splitlines()[-1][:80]}")
    return Measurement(**json.loads(answer.read_text()))


def lay_out(volume: Volume, folder: Path) -> None:
    """Write a case where peers read it."""
    folder.mkdir(exist_ok=True)
    for name, voxels in (("image", volume.image), ("mask", volume.mask.astype(np.uint8))):
        image = SimpleITK.GetImageFromArray(voxels)
        image.SetSpacing(volume.spacing[::-1])
        for kind in ("nrrd", "nii"):
            SimpleITK.WriteImage(image, str(folder / f"{name}.{kind}"))


def run_one(engine: str, case: str, preset: str, repeats: int) -> Measurement:
    """Measure in this process."""
    function, threads = ENGINES[engine]
    volume = CASES[case]()
    if function is native:
        warm()
    forget_peak()
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


def forget_peak() -> None:
    """Give unused memory back and let the peak (VmHWM) start from what is in use."""
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")


def memory(what: str) -> float:
    """Return this process's memory in use (VmRSS) or its peak (VmHWM), MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith(what))


def compare(expected: Mapping[str, float], got: Mapping[str, float]) -> tuple[float, int]:
    """Return the largest relative deviation over the names that both have, and how many those are."""
    ours = {_plain(name): value for name, value in got.items()}
    pairs = [(value, ours[_plain(name)]) for name, value in expected.items() if _plain(name) in ours]
    shared = [(one, other) for one, other in pairs if not (math.isnan(one) and math.isnan(other))]
    apart = [(one, other) for one, other in shared if not abs(one - other) <= ABSOLUTE]
    deviations = [abs(one - other) / abs(one) if one else math.inf for one, other in apart]
    return max((math.inf if math.isnan(found) else found for found in deviations), default=0.0), len(pairs)


def _plain(name: str) -> str:
    return name.replace("_", "").lower()


def compare_engines(case: str, preset: str, repeats: int, peers: Sequence[tuple[str, str]], limit: float) -> str:
    """Print a line for each engine on one case, and return the line of the summary."""
    volume = CASES[case]()
    found = {engine: measure(engine, case, preset, repeats) for engine in ENGINES}
    with tempfile.TemporaryDirectory() as folder:
        lay_out(volume, Path(folder))
        lay_out(CASES["breast1"](), Path(folder) / "small")
        found |= {peer[0]: measure_peer(peer, Path(folder), preset, repeats, limit) for peer in peers}
    expected = found["PyRadiomics"]
    label = f"{case}, {find_region(volume.mask, volume.spacing).count} voxels, {preset}"
    for engine, measured in found.items():
        write(f"| {label} | {engine} | {describe_one(expected, measured)} |")
    return summarise(label, found, [name for name, _ in peers])


def describe_one(expected: Measurement, measured: Measurement) -> str:
    """Format one engine: time, ratio, memory, deviation; or why there is none."""
    if measured.reason:
        return f"{measured.reason} | | | "
    worst, shared = compare(expected.features, measured.features)
    ratio = expected.seconds / measured.seconds
    return f"{measured.seconds:.4f} s | {ratio:.3g}x | {measured.megabytes:.0f} MB | {worst:.0e} of {shared}"


def summarise(label: str, found: dict[str, Measurement], peers: list[str]) -> str:
    """Format the line of one case: PyRadiomics, this engine, and the fastest of the others."""
    expected, one, two = found["PyRadiomics"], found["1 thread"], found["2 threads"]
    deviations = Deviations()
    for measured in (one, two):
        deviations.compare(expected.features, measured.features)
    verdict = f"{max(deviations.worst.values(), default=0.0):.0e}"
    verdict = f"{len(deviations.wrong)} WRONG" if deviations.wrong else verdict
    able = [name for name in peers if not found[name].reason]
    best = min(able, key=lambda name: found[name].seconds, default="")
    rival = f"{best} {describe_one(expected, found[best])}".replace(" | ", ", ") if best else "none can"
    ratios = " / ".join(f"{expected.seconds / measured.seconds:.0f}x" for measured in (one, two))
    return (
        f"| {label} | {expected.seconds:.3g} s, {expected.megabytes:.0f} MB | {one.seconds:.3g} / {two.seconds:.3g} s, "
        f"{one.megabytes:.0f} MB | {ratios} | {verdict} | {rival} |"
    )


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
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=PYTHON")
    parser.add_argument("--limit", type=float, default=90, help="seconds for all runs of one peer on one case")
    parser.add_argument("--one", nargs=3, metavar=("ENGINE", "CASE", "PRESET"))
    arguments = parser.parse_args()
    if arguments.one:
        write(json.dumps(vars(run_one(*arguments.one, arguments.repeats))))
        return
    peers = [(name, python) for name, _, python in (peer.partition("=") for peer in arguments.peer)]
    asked = [(case, preset) for case in arguments.cases for preset in arguments.presets]
    write("| case | engine | time | PyRadiomics' time over it | memory | largest deviation, features shared |")
    write("|---" * 6 + "|")
    lines = [compare_engines(*one, arguments.repeats, peers, arguments.limit) for one in asked]
    write("\n| case | PyRadiomics | 1 / 2 threads | ratio | deviation | fastest other engine |")
    write("|---" * 6 + "|\n" + "\n".join(lines))


if __name__ == "__main__":
    main()
