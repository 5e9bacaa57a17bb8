"""Reading a DICOM series of 300 slices against SimpleITK's ImageSeriesReader on the same files, in turn, in one run.

    python -m tests.bench.bench_reading [--slices 300] [--edge 512] [--rounds 7]

Both read from files in the page cache, give voxels in modality units and must agree voxel by voxel. Prints the median
seconds of both and their ratio. SimpleITK is given the files in order (sorting them, which it does in another pass
over all headers, is timed apart), and checks neither gaps, tilt, orientation nor limits; this reader does.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK

from service.imaging.case import Image
from service.imaging.dicom import read_series
from service.imaging.guard import Limits
from service.imaging.itk_bridge import from_itk
from tests.build import build_geometry, write_dicom_series

LIMITS = Limits(decoded_bytes=2**32, voxels=2**29, files=2000)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--edge", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = write_series(Path(folder), arguments.edge, arguments.slices)
        measure(paths, arguments.rounds)


def write_series(folder: Path, edge: int, slices: int) -> list[Path]:
    """Write a CT series of noise, with whole-number rescaling as scanners have it."""
    geometry = build_geometry((edge, edge, slices), (0.7, 0.7, 1.0))
    voxels = np.random.default_rng(0).integers(0, 2500, geometry.shape, np.int16)

    def change(dataset: Any, _index: int) -> None:
        dataset.RescaleIntercept = "-1024"

    return write_dicom_series(folder, Image(voxels, geometry), change=change)


def measure(paths: Sequence[Path], rounds: int) -> None:
    """Time both readers in turn."""
    ways: dict[str, Callable[[], Any]] = {
        "read_series": lambda: read_series(paths, LIMITS),
        "ImageSeriesReader": lambda: read_by_simpleitk(paths),
        "sorting by GDCM": lambda: SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(paths[0].parent)),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, read in ways.items():
            began = time.perf_counter()
            read()
            seconds[name].append(time.perf_counter() - began)
    medians = {name: float(np.median(each[1:])) for name, each in seconds.items()}
    same = np.array_equal(read_series(paths, LIMITS).voxels, from_itk(read_by_simpleitk(paths)).voxels)
    for name, each in medians.items():
        sys.stdout.write(f"{name}: {1000 * each:.0f} ms\n")
    ratio = medians["read_series"] / medians["ImageSeriesReader"]
    whole = medians["read_series"] / (medians["ImageSeriesReader"] + medians["sorting by GDCM"])
    sys.stdout.write(f"ratio: {ratio:.2f} ({whole:.2f} with its sorting); equal voxels: {same}\n")


def read_by_simpleitk(paths: Sequence[Path]) -> Any:
    """Read the files in the order given."""
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames([str(path) for path in paths])
    return reader.Execute()


if __name__ == "__main__":
    main()
