"""Fuzz the readers: `python -m tests.faults.fuzz_inputs [--files 2000] [--seed 0] [--service]`."""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.faults.fuzz import Case, make_cases, run_cases
from tests.faults.fuzz_service import pass_through


def main() -> int:
    """Run, print the table, and return 1 if any case did not end as it must."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--children", type=int, default=2)
    parser.add_argument("--service", action="store_true", help="through API and worker, not straight to children")
    given = parser.parse_args()
    numbers = range(given.first, given.first + given.files)
    with tempfile.TemporaryDirectory(prefix="radfuse-fuzz-") as folder:
        (Path(folder) / "seeds").mkdir()
        cases = make_cases(Path(folder) / "seeds", given.seed, numbers)
        wrong = run_service(Path(folder), cases) if given.service else run_children(Path(folder), cases, given.children)
    tell(f"{len(wrong)} found wrong")
    return int(bool(wrong))


def run_children(folder: Path, cases: Iterator[Case], children: int) -> list[str]:
    """Run the cases in worker's children."""
    report = run_cases(folder / "home", cases, children, tell)
    tell(report.table())
    return report.wrong()


def run_service(folder: Path, cases: Iterator[Case]) -> list[str]:
    """Send the cases through API and worker."""
    passage = pass_through(folder, cases)
    tell("\n".join([passage.row(), *passage.wrong]))
    return passage.wrong


def tell(line: str) -> None:
    """Print, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
