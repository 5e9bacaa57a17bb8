"""What a table of many results costs, and a DICOM report of one.

    python -m tests.bench.bench_outputs [--rows 10000]

Each row is printed by a process of its own, so that its peak of memory (ru_maxrss) is its own. Documents are decoded
from JSON one at a time, as the ledger holds them; the time of that is part of the table's and is also shown alone.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from service.api.representations import render_report
from service.radiomics_settings import PRESETS
from service.report.columns import Columns, Entry
from service.report.parquet import stream_parquet
from service.report.table import stream_csv
from tests.report.documents import build_document, build_references

EMBEDDING = 128
TASKS = ("documents", "csv", "parquet", "report")


def main() -> None:
    """Print a row for each task and preset."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--task", nargs=2, metavar=("TASK", "PRESET"), help="run one task here")
    arguments = parser.parse_args()
    if arguments.task:
        measure(*arguments.task, arguments.rows)
        return
    print("| task | preset | features | rows | seconds | peak MB | MB written |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for preset in ("original", "full"):
        for task in TASKS:
            command = [sys.executable, "-m", "tests.bench.bench_outputs", "--rows", str(arguments.rows)]
            subprocess.run([*command, "--task", task, preset], check=True)


def measure(task: str, preset: str, rows: int) -> None:
    """Run one task and print its row."""
    names = [*PRESETS[preset].feature_names(), *(f"deep_{index:04d}" for index in range(EMBEDDING))]
    document = build_document(features={name: 0.1 + index / 7 for index, name in enumerate(names)})
    rows = 1 if task == "report" else rows
    began = time.perf_counter()
    written = run(task, document, rows)
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_CHILDREN if task == "report" else resource.RUSAGE_SELF).ru_maxrss / 1000
    print(
        f"| {task} | {preset} | {len(names)} | {rows} | {seconds:.3g} | {peak:.0f} | {written / 1e6:.1f} |", flush=True
    )


def run(task: str, document: dict[str, Any], rows: int) -> int:
    """Return how many bytes the task wrote."""
    if task == "report":
        return len(render_report(document | {"references": build_references()}, Path(sys.executable)))
    if task == "documents":
        return sum(0 for _ in entries(document, rows))
    columns = Columns.gather([document], ["Image", "Mask"], with_problem=True)
    if task == "csv":
        return sum(len(line) for line in stream_csv(entries(document, rows), columns))
    return sum(len(piece) for piece in stream_parquet(entries(document, rows), columns))


def entries(document: dict[str, Any], rows: int) -> Iterator[Entry]:
    """Yield as many results, each decoded anew."""
    text = json.dumps(document)
    for number in range(rows):
        yield json.loads(text), {"Image": f"{number}/image.nii.gz", "Mask": f"{number}/mask.nii.gz"}


if __name__ == "__main__":
    main()
