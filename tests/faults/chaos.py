"""Kill everything at random while jobs run, through the real `radfuse up` and its HTTP interface.

What must hold: every accepted job ends exactly once, its result is bit-identical to that of an undisturbed run, and
nothing is left, neither process nor upload.
"""

import os
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import redis

from service.ledger import Ledger
from service.storage import Storage
from service.up.home import open_home
from service.up.installation import Installation
from tests.build import to_bytes, write_nifti
from tests.bundle_builder import NAME, write_bundle
from training.layouts import LUNG, SMALL
from training.phantoms import make_phantom

PROCESSES = ("child", "worker", "api", "redis", "dispatcher")
CASES = 6
GONE = (httpx.TransportError, redis.exceptions.RedisError)
NEEDS_NO_RETRY = (200, 202)


@dataclass
class Case:
    """One upload and what it gives when nothing happens."""

    image: bytes
    mask: bytes
    preset: str
    undisturbed: Any = None


@dataclass
class Outcome:
    """What happened, and what was found wrong."""

    jobs: int = 0
    seconds: float = 0.0
    longest_seconds: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)
    attempts: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def table(self) -> str:
        """Return the summary."""
        rows = {
            "jobs accepted": self.jobs,
            "ended as": counted(self.states),
            "attempts needed": counted(self.attempts),
            "faults": counted(self.faults),
            "seconds, all": f"{self.seconds:.1f}",
            "seconds, longest job": f"{self.longest_seconds:.1f}",
            "found wrong": "; ".join(self.wrong) or "nothing",
        }
        width = max(map(len, rows))
        return "\n".join(f"{name:<{width}}  {value}" for name, value in rows.items())


def counted(counter: "Counter[Any]") -> str:
    return ", ".join(f"{key}: {count}" for key, count in sorted(counter.items())) or "none"


class Chaos:
    """One run: an installation, its cases, and the one who kills."""

    def __init__(self, folder: Path, seed: int, **environment: str) -> None:
        write_bundle(folder / "models")
        self.random = random.Random(seed)
        self.outcome = Outcome()
        self.told: list[str] = []
        self.home = folder / "home"
        given = {key: value for key, value in os.environ.items() if not key.startswith("RADFUSE_")}
        values = {
            "RADFUSE_HOME": str(self.home),
            "RADFUSE_MODELS": str(folder / "models"),
            "RADFUSE_PORT": "0",
            "RADFUSE_DEVICE": "cpu",
            # The same job may be hit often; here it is to succeed all the same.
            "RADFUSE_MAX_ATTEMPTS": "20",
        }
        self.installation = Installation(given | values | environment, tell=self.told.append)
        self.cases = [make_case(number) for number in range(CASES)]
        self.begun: dict[str, float] = {}
        self.case_of: dict[str, Case] = {}

    def run(self, jobs: int, faults: int, seconds: float) -> Outcome:
        """Start, learn the undisturbed results, then submit `jobs` and do `faults` while they run."""
        self.installation.start()
        try:
            with httpx.Client(base_url=self.installation.url, timeout=10, trust_env=False) as http:
                for number, case in enumerate(self.cases):
                    case.undisturbed = self.finish_one(http, case, f"undisturbed-{number}")
                self.case_of.clear()
                self.begun.clear()
                self.disturb(http, jobs, faults, time.monotonic() + seconds)
                self.check_files()
        finally:
            self.installation.stop()
        if left := self.installation.processes_left():
            self.outcome.wrong.append(f"{len(left)} processes are left")
        self.check_ledger(jobs)
        return self.outcome

    def finish_one(self, http: httpx.Client, case: Case, key: str) -> Any:
        job_id = self.submit(http, case, key)
        while (document := self.ask(http, job_id)) is None or document["status"] in ("queued", "running"):
            time.sleep(0.02)
        return document["rois"]

    def disturb(self, http: httpx.Client, jobs: int, faults: int, deadline: float) -> None:
        """Submit, kill and watch in turn until every job has ended and every fault was done."""
        began = time.monotonic()
        plan = self.plan(faults)
        flush_at = faults // 2
        ended: dict[str, tuple[str, str]] = {}
        next_fault = began
        while plan or len(ended) < jobs:
            if time.monotonic() > deadline:
                self.outcome.wrong.append(f"{jobs - len(ended)} jobs had not ended in time")
                break
            for _ in range(4):
                if (number := len(self.case_of)) < jobs:
                    self.submit(http, self.cases[number % CASES], f"disturbed-{number}")
            if plan and time.monotonic() >= next_fault:
                if len(plan) == flush_at:
                    self.flush()
                self.kill(plan.pop())
                next_fault = time.monotonic() + self.random.uniform(0.2, 2.0)
            self.installation.look()
            for job_id in self.case_of.keys() - ended.keys():
                self.watch(http, job_id, ended)
            time.sleep(0.05)
        self.outcome.seconds = time.monotonic() - began
        self.outcome.jobs = len(self.case_of)
        for job_id, seen in ended.items():
            document = self.insist(http, job_id)
            if (document["status"], document["version"]) != seen:
                self.outcome.wrong.append("a job changed after its end")

    def plan(self, faults: int) -> list[str]:
        """Every kind of process about as often, in random order."""
        plan = [PROCESSES[number % len(PROCESSES)] for number in range(faults)]
        self.random.shuffle(plan)
        return plan

    def submit(self, http: httpx.Client, case: Case, key: str) -> str:
        """Submit until it is accepted, as a client does: the key makes repeating safe."""
        files = {"image": case.image, "mask": case.mask, "radiomics": (None, case.preset), "model": (None, NAME)}
        while True:
            try:
                answer = http.post("/features", files=files, headers={"Idempotency-Key": key})
            except GONE:
                self.installation.look()
                time.sleep(0.1)
                continue
            if answer.status_code in NEEDS_NO_RETRY:
                job_id = str(answer.json()["id"])
                self.case_of[job_id] = case
                self.begun.setdefault(job_id, time.monotonic())
                return job_id
            if answer.status_code < 500:
                raise RuntimeError(f"{answer.status_code}: {answer.text}")
            time.sleep(0.1)

    def ask(self, http: httpx.Client, job_id: str) -> Any:
        """Return the job's document, its version taken from the ETag; None while nobody answers."""
        try:
            answer = http.get(f"/features/{job_id}")
        except GONE:
            return None
        if answer.status_code >= 500:
            return None
        return answer.raise_for_status().json() | {"version": answer.headers["ETag"]}

    def insist(self, http: httpx.Client, job_id: str) -> Any:
        while (document := self.ask(http, job_id)) is None:
            self.installation.look()
            time.sleep(0.1)
        return document

    def watch(self, http: httpx.Client, job_id: str, ended: dict[str, tuple[str, str]]) -> None:
        document = self.ask(http, job_id)
        if document is None or document["status"] in ("queued", "running"):
            return
        ended[job_id] = (document["status"], document["version"])
        self.outcome.states[document["status"]] += 1
        self.outcome.longest_seconds = max(self.outcome.longest_seconds, time.monotonic() - self.begun[job_id])
        if document["status"] != "succeeded":
            self.outcome.wrong.append(f"a job ended as {document['status']}")
        elif document["rois"] != self.case_of[job_id].undisturbed:
            self.outcome.wrong.append("a result differs from that of the undisturbed run")

    def kill(self, name: str) -> None:
        """Kill -9 one process, if it runs at the moment."""
        ids = self.installation.process_ids()
        found = ids.get("worker" if name == "child" else name)
        if found is None:
            return
        try:
            if name == "child":
                found = self.random.choice(psutil.Process(found).children()).pid
            os.kill(found, signal.SIGKILL)
        except (IndexError, ProcessLookupError, psutil.NoSuchProcess):
            return
        self.outcome.faults[name] += 1

    def flush(self) -> None:
        """Empty the broker; wait for it if it was just killed."""
        client = redis.Redis(unix_socket_path=str(open_home(self.home).redis_socket))
        while not self.outcome.faults["flush"]:
            try:
                client.flushall()
                self.outcome.faults["flush"] += 1
            except GONE:
                self.installation.look()
                time.sleep(0.1)
        client.close()

    def check_files(self) -> None:
        """No job's uploads are left. Those of an interrupted request, which never became a job, stay for an hour."""
        storage = Storage(self.home)
        ledger = Ledger(self.installation.settings.ledger_url)
        deadline = time.monotonic() + 70
        while (left := ledger.know(storage.list_jobs())) and time.monotonic() < deadline:
            time.sleep(0.5)
        ledger.dispose()
        if left:
            self.outcome.wrong.append(f"the uploads of {len(left)} jobs are left")

    def check_ledger(self, jobs: int) -> None:
        """No job more than was accepted."""
        ledger = Ledger(self.installation.settings.ledger_url)
        known = ledger.list_jobs("local", limit=10 * jobs + 100)
        ledger.dispose()
        self.outcome.attempts.update(job.attempt for job in known if job.id in self.case_of)
        if len(known) != jobs + CASES:
            self.outcome.wrong.append(f"the ledger holds {len(known)} jobs, {jobs + CASES} were accepted")


def make_case(number: int) -> Case:
    phantom = make_phantom(number, layout=LUNG if number % 2 else SMALL)
    image = to_bytes(lambda path: write_nifti(path, phantom.image, compressed=True))
    mask = to_bytes(lambda path: write_nifti(path, phantom.mask, compressed=True))
    return Case(image, mask, "full" if number % 3 == 0 else "original")
