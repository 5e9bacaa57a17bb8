"""A cohort of lung nodules, preset full, on two cores: this engine against PyRadiomics' command line.

    python -m tests.bench.bench_cohort_radiomics [--cases 1000]

The folder of nodules holds 801; the first ones are taken again until there are as many cases as asked for. Both
sides read the same compressed files in two processes, and both are timed from their start, imports and warming
included, to the written table; this engine through `read_case` and `engine.run.compute`, with the file's own axes.
Like PyRadiomics it then leaves out LoG images that a volume is too small for (the service refuses such a case, as it
promises every feature). Prints both times, their ratio, incomplete cases, and the largest deviation of any value.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import cycle, islice
from pathlib import Path

from service.errors import CaseError
from service.features.engine.run import compute
from service.features.engine.warm import warm
from service.imaging.guard import Limits
from service.imaging.orientation import as_stored
from service.imaging.reader import CaseFiles, read_case
from service.radiomics_settings import PRESETS
from tests.bench.bench_radiomics import DATA, IMAGES
from tests.engine.reference import Deviations

PROCESSES = 2
NODULES = DATA / "lidc_nodules"
LIMITS = Limits(decoded_bytes=2**31, voxels=2**29, files=4096)
Row = dict[str, float]


def describe(name: str) -> tuple[str, Row | str]:
    """Read one nodule and compute its features, or say why it is refused."""
    files = CaseFiles(images={"image": [NODULES / "image" / name]}, mask=[NODULES / "nodule_mask" / name])
    try:
        case = read_case(files, roi=None, resample_mask=False, limits=LIMITS, case_id=None)
        image, (mask,) = as_stored(case.images["image"], case.masks)
        return name, compute(image, mask, PRESETS["full"])
    except CaseError as error:
        return name, type(error).__name__


def run_here(names: list[str], answer: Path) -> None:
    """Compute all cases in two processes and write one row for each."""
    columns = PRESETS["full"].feature_names()
    with ProcessPoolExecutor(PROCESSES, initializer=warm) as pool, answer.open("w") as stream:
        table = csv.writer(stream)
        table.writerow(["case", "refused", *columns])
        for name, found in pool.map(describe, names, chunksize=4):
            refused, features = (found, {}) if isinstance(found, str) else ("", found)
            table.writerow([name, refused, *(features.get(column, "") for column in columns)])


def time_here(names: list[str], folder: Path) -> float:
    """Run this module for the computation alone, as a program of its own."""
    (folder / "names.json").write_text(json.dumps(names))
    command = [sys.executable, "-m", "tests.bench.bench_cohort_radiomics", "--compute", str(folder)]
    return timed(command, os.environ | {"OPENBLAS_NUM_THREADS": "1"})


def time_pyradiomics(names: list[str], folder: Path) -> float:
    """Run PyRadiomics' command line on the same files."""
    with (folder / "cases.csv").open("w") as stream:
        table = csv.writer(stream)
        table.writerow(["Image", "Mask"])
        table.writerows([NODULES / kind / name for kind in ("image", "nodule_mask")] for name in names)
    classes = dict.fromkeys(("shape", "firstorder", "glcm", "gldm", "glrlm", "glszm", "ngtdm"))
    document = {"imageType": IMAGES["full"], "featureClass": classes, "setting": {"additionalInfo": False}}
    (folder / "parameters.yaml").write_text(json.dumps(document))
    program = str(Path(sys.executable).with_name("pyradiomics"))
    options = ["-p", str(folder / "parameters.yaml"), "-o", str(folder / "theirs.csv"), "-f", "csv"]
    command = [program, str(folder / "cases.csv"), *options, "-j", str(PROCESSES), "-v", "1"]
    return timed(command, os.environ | {"OPENBLAS_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"})


def timed(command: list[str], environment: dict[str, str]) -> float:
    """Run a program and return its seconds."""
    started = time.perf_counter()
    subprocess.run(command, env=environment, check=True, capture_output=True)
    return time.perf_counter() - started


def read_rows(path: Path) -> Iterator[tuple[str, Row]]:
    """Yield the file's name and the features of each row of either table."""
    with path.open() as stream:
        for row in csv.DictReader(stream):
            name = row.get("case") or Path(row["Image"]).name
            yield (
                name,
                {key: float(value) for key, value in row.items() if value and key.startswith(("orig", "log", "wave"))},
            )


def compare(folder: Path) -> str:
    """Compare both tables, case by case."""
    deviations, theirs = Deviations(), dict(read_rows(folder / "theirs.csv"))
    ours = dict(read_rows(folder / "ours.csv"))
    for name, row in ours.items():
        deviations.compare(theirs[name], row, name)
    worst, complete = max(deviations.worst.values(), default=0.0), max(map(len, ours.values()))
    return (
        f"{len(ours)} different cases, {deviations.values} values, worst deviation {worst:.0e}, out of tolerance "
        f"{len(deviations.wrong)}; without some LoG images {sum(0 < len(row) < complete for row in ours.values())}, "
        f"refused {sum(not row for row in ours.values())}"
    )


def main() -> None:
    """Time both sides and compare their tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--compute", type=Path, help="compute the cases named in this folder, and nothing else")
    arguments = parser.parse_args()
    if arguments.compute:
        run_here(json.loads((arguments.compute / "names.json").read_text()), arguments.compute / "ours.csv")
        return
    present = sorted(path.name for path in (NODULES / "image").iterdir())
    names = list(islice(cycle(present), arguments.cases))
    with tempfile.TemporaryDirectory() as folder:
        here = time_here(names, Path(folder))
        there = time_pyradiomics(names, Path(folder))
        sys.stdout.write(
            f"{len(names)} cases ({len(present)} different), {PROCESSES} processes: radfuse {here:.1f} s "
            f"({len(names) / here:.1f} cases/s), PyRadiomics {there:.1f} s ({len(names) / there:.1f} cases/s), "
            f"ratio {there / here:.1f}\n{compare(Path(folder))}\n"
        )


if __name__ == "__main__":
    main()
