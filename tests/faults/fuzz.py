"""Run mutated cases through worker's children, and say what came of each.

What must hold for every case: its job ends; it succeeds or fails with a problem that blames the case; the process
survives, within the time and the memory granted.
"""

import json
import os
import random
import select
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from service.errors import CaseError
from service.job import JobRequest, JobState
from tests.faults.fuzz_mutations import mutate
from tests.faults.fuzz_seeds import Seed, build_seeds
from tests.running import OWNER, REPOSITORY, Installation, running

MIB = 1024**2
MOST_SECONDS = 20.0
MOST_GROWN_BYTES = 256 * MIB  # no file of the corpus is larger than 2 MiB
MEMORY_BYTES = 2048 * MIB
TYPED = frozenset(kind.slug for kind in CaseError.__subclasses__())
COMPUTED = "computed"
HARMLESS = "Corrupt JPEG data"  # what the JPEG library inside GDCM says itself; it names no content


@dataclass(frozen=True)
class Case:
    """One mutated case: `number` and the run's seed make it again."""

    number: int
    form: str
    done: str
    image: tuple[bytes, ...]
    mask: bytes
    roi: str | None
    resample_mask: bool


@dataclass(frozen=True)
class Ending:
    """What came of a case: "computed", a problem's slug, "crash" or "hung"."""

    case: Case
    outcome: str
    seconds: float
    grown_bytes: int
    problem: dict[str, Any]
    log: str = ""


@dataclass
class Report:
    """All endings, and what was wrong with any."""

    endings: list[Ending] = field(default_factory=list)

    def wrong(self) -> list[str]:
        """Every case that did not end as it must."""
        return [
            f"case {end.case.number} ({end.case.form}: {end.case.done}): {why}"
            for end in self.endings
            for why in faults(end)
        ]

    def table(self) -> str:
        """A row per form: what its cases came to, the longest time and the most memory."""
        forms = list(dict.fromkeys(end.case.form for end in self.endings))
        rows = [describe(form, [end for end in self.endings if end.case.form == form]) for form in forms]
        return "\n".join([*rows, describe("all", self.endings)])


def faults(end: Ending) -> Iterator[str]:
    """What is wrong with one ending."""
    if end.outcome != COMPUTED and end.outcome not in TYPED:
        yield f"{end.outcome} {end.log}"
    if end.log and end.outcome == COMPUTED:
        yield f"the log complains {end.log}"
    if end.seconds > MOST_SECONDS:
        yield f"{end.seconds:.1f} s"
    if end.grown_bytes > MOST_GROWN_BYTES:
        yield f"{end.grown_bytes / MIB:.0f} MiB ({end.outcome})"


def describe(name: str, endings: Sequence[Ending]) -> str:
    """One row of the table."""
    counts = Counter(end.outcome for end in endings)
    slowest = max(end.seconds for end in endings)
    largest = max(end.grown_bytes for end in endings)
    told = ", ".join(f"{outcome} {count}" for outcome, count in counts.most_common())
    return f"{name:<20} {len(endings):>5} files {slowest:6.2f} s {largest / MIB:6.1f} MiB   {told}"


def make_cases(folder: Path, seed: int, numbers: Sequence[int]) -> Iterator[Case]:
    """Make the cases of these numbers; the forms take turns."""
    seeds = build_seeds(folder)
    for number in numbers:
        yield make_case(seeds, seed, number)


def make_case(seeds: Sequence[Seed], seed: int, number: int) -> Case:
    """Make one case; its seed and number determine what is done to it."""
    rng = random.Random(f"{seed}-{number}")
    chosen = seeds[number % len(seeds)]
    image, mask, done = mutate(rng, chosen)
    return Case(number, chosen.form, done, image, mask, rng.choice(("all", "all", None)), rng.random() < 0.5)


def run_cases(
    home: Path, cases: Iterator[Case], children: int = 1, tell: Callable[[str], object] = lambda _: None
) -> Report:
    """Run cases in as many worker's children at once; a child that dies or hangs is replaced.

    Args:
        home: a folder to be made.
        cases: what to run.
        children: how many at once.
        tell: hears at once of every case that did not end as it must.
    """
    report = Report()
    with (
        running(home, "redis", RADFUSE_MAX_ATTEMPTS="1", RADFUSE_WORKER_MEMORY_BYTES=str(MEMORY_BYTES)) as installation,
        open_lanes(installation, children) as lanes,
    ):
        waiting = iter(cases)
        while busy := [lane for lane in lanes if lane.begin_next(waiting)]:
            wait_for_one(busy)
            ended = [end for lane in busy if (end := lane.look()) is not None]
            report.endings += ended
            for line in Report(ended).wrong():
                tell(line)
    report.endings.sort(key=lambda end: end.case.number)
    return report


class Lane:
    """One child and the case it is at."""

    def __init__(self, installation: Installation, number: int) -> None:
        self.installation = installation
        self.path = installation.home / f"child-{number}.log"
        self.case: Case | None = None
        self.job_id = ""
        self.began = 0.0
        self.log_at = 0
        self.start()

    def start(self) -> None:
        """Start the child; it is used once it says that it is ready."""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("RADFUSE_")}
        with self.path.open("ab") as log:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.fuzz_child"],
                cwd=REPOSITORY,
                env=inherited | self.installation.values,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        if json.loads(self.output.readline() or "null") != "ready":
            raise RuntimeError(self.path.read_text())

    @property
    def output(self) -> Any:
        """Where the child answers."""
        return self.popen.stdout

    def begin_next(self, waiting: Iterator[Case]) -> bool:
        """Give the child a case if it has none; False where there is none left."""
        if self.case is None and (case := next(waiting, None)) is not None:
            self.case, self.job_id = case, submit(self.installation, case)
            self.began, self.log_at = time.monotonic(), self.path.stat().st_size
            assert self.popen.stdin is not None
            self.popen.stdin.write(self.job_id + "\n")
            self.popen.stdin.flush()
        return self.case is not None

    def look(self) -> Ending | None:
        """The ending of the case, if it has ended, or its time is up."""
        assert self.case is not None
        answered = bool(select.select([self.output], [], [], 0)[0])
        late = time.monotonic() - self.began > 2 * MOST_SECONDS
        if not answered and not late:
            return None
        answer = json.loads(self.output.readline() or "null") if answered else None
        case, self.case = self.case, None
        if answer is None:
            self.popen.kill()
            code = self.popen.wait()
            self.start()
            seconds = time.monotonic() - self.began
            return Ending(case, f"crash {code}" if answered else "hung", seconds, 0, {}, self.complaints())
        return self.end(case, answer)

    def end(self, case: Case, answer: dict[str, Any]) -> Ending:
        """What the ledger says of the job."""
        job = self.installation.job(self.job_id)
        problem = job.problem or {}
        outcome = str(problem.get("type", "")).removeprefix("/problems/")
        if job.state is JobState.SUCCEEDED:
            outcome = COMPUTED
        elif job.state is not JobState.FAILED:
            outcome = f"left {job.state}"
        if self.job_id in self.installation.storage.list_jobs():
            outcome += ", files left"
        return Ending(case, outcome, answer["seconds"], answer["grown_bytes"], problem, self.complaints())

    def complaints(self) -> str:
        """What the child's log says beyond the course of a job: errors, warnings, tracebacks."""
        with self.path.open() as log:
            log.seek(self.log_at)
            lines = log.read().splitlines()
        return " ".join(line for line in lines if '"level": "info"' not in line and not line.startswith(HARMLESS))

    def stop(self) -> None:
        """End the child."""
        self.popen.communicate(timeout=30)


@contextmanager
def open_lanes(installation: Installation, count: int) -> Iterator[list[Lane]]:
    """Start children; end them."""
    lanes: list[Lane] = []
    try:
        lanes += [Lane(installation, number) for number in range(count)]
        yield lanes
    finally:
        for lane in lanes:
            lane.stop()


def wait_for_one(busy: Sequence[Lane]) -> None:
    """Wait until a child answers, or a second has gone."""
    select.select([lane.output for lane in busy], [], [], 1)


def submit(installation: Installation, case: Case) -> str:
    """Accept a case as the API does: files first, then the row."""
    job_id = uuid.uuid4().hex
    with installation.storage.stage() as staging:
        uploads = []
        for number, content in enumerate((*case.image, case.mask)):
            role, channel = ("image", "ct") if number < len(case.image) else ("mask", None)
            with staging.open_part(f"{role}-{number:04d}") as part:
                part.write(content)
            uploads.append(part.upload(role, channel))
        staging.commit(job_id)
    request = JobRequest(model=installation.model, files=tuple(uploads), roi=case.roi, resample_mask=case.resample_mask)
    installation.ledger.create_job(job_id=job_id, owner=OWNER, request=request, case_id=None, idempotency_key=None)
    return job_id
