"""Fuzz the readers: `python -m tests.faults.fuzz_inputs [--files 2000] [--seed 0] [--children 2] [--only NUMBER]`."""

import argparse
import sys
import tempfile
from pathlib import Path

from tests.faults.fuzz import make_cases, run_cases


def main() -> int:
    """Run, print the table, and return 1 if any case did not end as it must."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--children", type=int, default=2)
    given = parser.parse_args()
    numbers = range(given.first, given.first + given.files)
    with tempfile.TemporaryDirectory(prefix="radfuse-fuzz-") as folder:
        (Path(folder) / "seeds").mkdir()
        cases = make_cases(Path(folder) / "seeds", given.seed, numbers)
        report = run_cases(Path(folder) / "home", cases, given.children, tell)
    wrong = report.wrong()
    tell(f"{report.table()}\n{len(wrong)} cases did not end as they must")
    return int(bool(wrong))


def tell(line: str) -> None:
    """Print, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
