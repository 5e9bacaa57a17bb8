"""Compare the engine with PyRadiomics on many random cases: python -m tests.engine.fuzz --cases 2000."""

import argparse
import random
import sys
import time
from collections import Counter

from service.errors import CaseError
from service.features.engine.bank import describe
from tests.engine.cases import Case, make_case
from tests.engine.reference import Deviations, pyradiomics


def check(case: Case, deviations: Deviations, outcomes: Counter[str]) -> None:
    """Compare one case; a refusal of either side must be one of both."""
    try:
        expected = pyradiomics(case.volume, case.document)
    except MemoryError:
        outcomes["PyRadiomics ran out of memory"] += 1
        return
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        expected, refusal = None, f"{type(error).__name__}: {error}"
    try:
        got = describe(case.volume.image, case.volume.mask, case.volume.spacing, case.bank)
    except CaseError as error:
        outcomes[f"refused: {type(error).__name__}"] += 1
        if expected is not None:
            deviations.wrong.append(f"{case.label}: the engine alone refuses: {error}")
        return
    if expected is None:
        deviations.wrong.append(f"{case.label}: PyRadiomics alone refuses: {refusal[:150]}")
        return
    outcomes["computed"] += 1
    deviations.compare(expected, got, case.label)


def draw(seed: int, kind: str = "mixed") -> Case:
    """Draw the case of one seed."""
    rng = random.Random(seed)
    if kind == "mixed":
        kind = rng.choice(("original", "original", "full", "settings", "settings", "settings-full"))
    return make_case(rng.choice, seed, filters="full" in kind, settings="settings" in kind)


def main() -> int:
    """Run the comparison and print the worst deviation of each class."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=("original", "full", "settings", "settings-full", "mixed"), default="mixed")
    arguments = parser.parse_args()
    deviations, outcomes = Deviations(), Counter[str]()
    started = time.perf_counter()
    for seed in range(arguments.seed, arguments.seed + arguments.cases):
        check(draw(seed, arguments.kind), deviations, outcomes)
    seconds = time.perf_counter() - started
    lines = [f"{arguments.cases} cases, {deviations.values} values in {seconds:.0f} s: {dict(outcomes)}"]
    lines += [
        f"  {family:12} worst relative deviation {worst:.1e}" for family, worst in sorted(deviations.worst.items())
    ]
    every = max(1, len(deviations.wrong) // 20)
    lines += [f"  out of tolerance: {len(deviations.wrong)}", *(f"    {line}" for line in deviations.wrong[::every])]
    sys.stdout.write("\n".join(lines) + "\n")
    return 1 if deviations.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
