"""Attack the whole service and print what each attack came to: `python -m tests.faults.attacks [--heavy]`.

What must hold for each: an outcome that is right for it, within the time and the memory granted; afterwards the same
processes live, nothing of the upload is left, and nothing has been written elsewhere.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.build import build_image, build_mask, write_nifti
from tests.faults import attacks_files
from tests.faults.attacks_files import ESCAPED
from tests.faults.attacks_requests import requests
from tests.faults.attacks_service import Cost, Target, attacked

MIB = 1024**2
UPLOAD_BYTES = 256 * MIB
IDLE_SECONDS = 2
SETTINGS = {
    "RADFUSE_MAX_UPLOAD_BYTES": str(UPLOAD_BYTES),
    "RADFUSE_UPLOAD_IDLE_SECONDS": str(IDLE_SECONDS),
    "RADFUSE_LOG_LEVEL": "INFO",
}
MOST_SECONDS = 20.0
MOST_API_BYTES = 24 * MIB
MOST_CHILD_BYTES = 768 * MIB
MOST_HEAVY_BYTES = 4096 * MIB  # of what is within the limits

SLOW = frozenset(
    {
        "gzip, 64 MiB to 64 GiB, declares 0.5 MiB",
        "gzip in gzip, to 1 TiB",
        "NRRD header of 70 MiB",
        "200 MiB of noise",
        "zip, 1 MiB to 1 TiB, overlapping",
        "DICOM deflated to 1 GiB",
        "DICOM, a sequence of 8 million items",
        "DICOM of 4 million elements",
        "the same items as a mask",
        "RTSTRUCT contour of 8 million points",
        "20,000 parts",
        "a body without end",
        "300 uploads that stop",
    }
)


@dataclass(frozen=True)
class Attack:
    """One attack: how it is made, what it may come to, and what it may cost."""

    name: str
    make: Callable[[Target], str]
    right: tuple[str, ...]
    seconds: float = MOST_SECONDS
    api_bytes: int = MOST_API_BYTES
    child_bytes: int = MOST_CHILD_BYTES


@dataclass(frozen=True)
class Outcome:
    """What an attack came to."""

    attack: Attack
    outcome: str
    cost: Cost
    left: tuple[str, ...]

    def wrong(self) -> list[str]:
        """What is not as it must be."""
        attack, cost = self.attack, self.cost
        found = [*self.left]
        if self.outcome not in attack.right:
            found.append(f"{self.outcome}, expected {' or '.join(attack.right)}")
        for got, most, unit in (
            (cost.seconds, attack.seconds, "s"),
            (cost.api_bytes / MIB, attack.api_bytes / MIB, "MiB of the API"),
            (cost.child_bytes / MIB, attack.child_bytes / MIB, "MiB of the worker"),
        ):
            if got > most:
                found.append(f"{got:.1f} {unit}, at most {most:g}")
        return [f"{attack.name}: {what}" for what in found]

    def row(self) -> str:
        """A line of the table."""
        cost = self.cost
        return (
            f"{self.attack.name:<42} {self.outcome:<20} {cost.seconds:7.2f} s {cost.api_bytes / MIB:7.1f} MiB "
            f"{cost.child_bytes / MIB:7.1f} MiB"
        )


def list_attacks(folder: Path, *, heavy: bool = False, quick: bool = False, only: str = "") -> Iterator[Attack]:
    """Yield every attack whose name holds `only`; a file is written, below `folder`, when its turn comes.

    Args:
        folder: for the files.
        heavy: what may take all that the limits allow, too.
        quick: without what takes seconds to make or to withstand.
        only: words of a name.
    """
    image = write_nifti(folder / "sound-image", build_image(), compressed=True)
    mask = write_nifti(folder / "sound-mask", build_mask(), compressed=True)
    for name, role, build, right in (*attacks_files.attacks(), *(attacks_files.heavy() if heavy else ())):
        if only in name and not (quick and name in SLOW):
            most = MOST_HEAVY_BYTES if build is attacks_files.gzip_within_limits else MOST_CHILD_BYTES
            yield Attack(name, sends(folder / "upload", role, build, image, mask), right, child_bytes=most)
    for name, make, right in requests():
        if only in name and not (quick and name in SLOW):
            yield Attack(name, make, right)


def sends(path: Path, role: str, build: Callable[[Path], Path], image: Path, mask: Path) -> Callable[[Target], str]:
    """Make the attack that uploads a file; the file is made before time is taken."""
    file = build(path.with_name(f"{path.name}-{build.__name__}-{role}"))

    def make(target: Target) -> str:
        parts = (file, mask) if role == "image" else (image, file)
        return target.outcome(target.submit(*parts))[0]

    return make


def run(target: Target, attacks: Iterator[Attack], tell: Callable[[str], object] = lambda _: None) -> list[Outcome]:
    """Make every attack, one after the other."""
    outcomes = []
    for attack in attacks:
        with target.watched() as costs:
            outcome = attack.make(target)
        left = [] if target.wait_until_clean() else ["something is left of the upload"]
        if (alive := target.find_processes()) != target.processes:
            left.append("a process was lost")
            target.processes = alive
        if list(Path(tempfile.gettempdir()).glob(f"{ESCAPED}*")):
            left.append("a file was written elsewhere")
        outcomes.append(Outcome(attack, outcome, costs[0], tuple(left)))
        tell(outcomes[-1].row())
    return outcomes


def main() -> int:
    """Attack, print the table, and return 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--heavy", action="store_true", help="also what may take all that the limits allow")
    parser.add_argument("--only", default="", help="words that the name of an attack holds")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="radfuse-attacks-") as folder:
        began = time.monotonic()
        with attacked(Path(folder), **SETTINGS) as target:
            outcomes = run(target, list_attacks(Path(folder), heavy=given.heavy, only=given.only), tell)
        wrong = [line for outcome in outcomes for line in outcome.wrong()]
        tell(f"{len(outcomes)} attacks in {time.monotonic() - began:.0f} s")
        report(wrong)
    return int(bool(wrong))


def report(wrong: Sequence[str]) -> None:
    """Say what was wrong, if anything was."""
    tell("\n".join(wrong) if wrong else "every attack came to what it must")


def tell(line: str) -> None:
    """Print, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
