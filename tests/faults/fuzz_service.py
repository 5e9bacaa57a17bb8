"""Send mutated cases through the whole service, several at once, and say what came of them."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.faults.attacks_service import Cost, attacked
from tests.faults.fuzz import COMPUTED, MIB, MOST_GROWN_BYTES, TYPED, Case

AT_THE_DOOR = {"invalid-field"}  # an empty file


@dataclass(frozen=True)
class Passage:
    """What came of all cases."""

    outcomes: Counter[str]
    cost: Cost
    wrong: list[str]

    def row(self) -> str:
        """A line of the report."""
        told = ", ".join(f"{outcome} {count}" for outcome, count in self.outcomes.most_common())
        return (
            f"{self.outcomes.total()} cases through the service in {self.cost.seconds:.0f} s: {told}; the API grew by "
            f"{self.cost.api_bytes / MIB:.1f} MiB, the worker's child by {self.cost.child_bytes / MIB:.1f} MiB"
        )


def pass_through(folder: Path, cases: Iterator[Case]) -> Passage:
    """Submit every case before the first is asked for, and follow each to its end."""
    outcomes: Counter[str] = Counter()
    wrong = []
    with attacked(folder) as target:
        with target.watched() as costs:
            answers = []
            for case in cases:
                fields = {"resample_mask": str(case.resample_mask).lower()} | ({"roi": case.roi} if case.roi else {})
                answers.append((case, target.submit_files(case.image, case.mask, **fields)))
            for case, answer in answers:
                outcome, problem = target.outcome(answer)
                outcomes[outcome] += 1
                if outcome not in TYPED | AT_THE_DOOR | {COMPUTED}:
                    wrong.append(f"case {case.number} ({case.form}: {case.done}): {problem}")
        (cost,) = costs
        if target.find_processes() != target.processes:
            wrong.append("a process was lost")
        if not target.wait_until_clean():
            wrong.append("uploads are left")
        if unfinished := target.http.get("/features?status=queued").json()["items"]:
            wrong.append(f"{len(unfinished)} jobs have not ended")
        if cost.child_bytes > MOST_GROWN_BYTES:
            wrong.append(f"the worker's child grew by {cost.child_bytes / MIB:.0f} MiB")
        if '"level": "error"' in target.logs():
            wrong.append("a log holds errors")
    return Passage(outcomes, cost, wrong)
