"""Run the chaos test at full size: `python -m tests.faults.run_chaos [--jobs 100] [--faults 50] [--seed 0]`."""

import argparse
import sys
import tempfile
from pathlib import Path

from tests.faults.chaos import Chaos


def main() -> int:
    """Run, print the table, and return 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=100)
    parser.add_argument("--faults", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=1200, help="most seconds until every job has ended")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="radfuse-chaos-") as folder:
        outcome = Chaos(Path(folder), given.seed).run(given.jobs, given.faults, given.seconds)
    sys.stdout.write(outcome.table() + "\n")
    return int(bool(outcome.wrong))


if __name__ == "__main__":
    sys.exit(main())
