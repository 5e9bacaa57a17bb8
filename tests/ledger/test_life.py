"""Any order of submissions, claims, losses, cancellations and clean-ups: a job ends once, with the last result."""

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from service.job import JobState
from service.ledger import Claim, Ledger
from tests.ledger.conftest import Clock
from tests.ledger.making import OWNER, RULES, submit

WORKERS = st.sampled_from(["w1", "w2"])


class Life(RuleBasedStateMachine):
    """Two workers and a dispatcher that do whatever they like."""

    submitted = Bundle("submitted")
    claims = Bundle("claims")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.clock = Clock()
        self.ledger = Ledger(f"sqlite:///{Path(self.folder.name) / 'ledger.sqlite3'}", clock=self.clock)
        self.ledger.upgrade()
        self.ended: dict[str, JobState] = {}
        self.last: dict[str, Claim] = {}
        self.alive: set[str] = set()

    def teardown(self) -> None:
        self.ledger.dispose()
        self.folder.cleanup()

    @rule(target=submitted)
    def submit(self) -> str:
        job_id = submit(self.ledger).id
        self.alive.add(job_id)
        return job_id

    @rule(seconds=st.sampled_from([1, 12, 61, 400]))
    def wait(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @rule()
    def dispatch(self) -> None:
        self.ledger.mark_queued(self.ledger.take_accepted(2))

    @rule()
    def reconcile(self) -> None:
        self.ledger.reconcile(**RULES | {"retention_seconds": 1e9})

    @rule(target=claims, job_id=submitted, worker=WORKERS)
    def claim(self, job_id: str, worker: str) -> object:
        claim = self.ledger.claim(job_id, worker, 10, 3)
        if claim is None:
            return multiple()
        assert job_id not in self.ended
        assert job_id not in self.last or claim.attempt > self.last[job_id].attempt
        self.last[job_id] = claim
        return claim

    @rule(claim=claims)
    def finish(self, claim: Claim) -> None:
        if self.ledger.finish(claim, {"worker": claim.worker, "attempt": claim.attempt}):
            self.end(claim, JobState.SUCCEEDED)
            document = self.ledger.find_result(claim.job.id, OWNER)
            assert document == {"worker": claim.worker, "attempt": claim.attempt}

    @rule(claim=claims)
    def fail(self, claim: Claim) -> None:
        if self.ledger.fail(claim, {"title": "no"}):
            self.end(claim, JobState.FAILED)

    def end(self, claim: Claim, state: JobState) -> None:
        assert claim.job.id not in self.ended
        assert self.last[claim.job.id] is claim
        self.ended[claim.job.id] = state

    @rule(claim=claims)
    def lose_the_child(self, claim: Claim) -> None:
        self.ledger.release(claim.job.id, claim.worker)

    @rule(worker=WORKERS)
    def lose_the_worker(self, worker: str) -> None:
        self.ledger.release_worker(worker)

    @rule(job_id=consumes(submitted))
    def remove(self, job_id: str) -> None:
        before = self.ledger.find_job(job_id, OWNER)
        self.ledger.remove_job(job_id, OWNER)
        if before.state.terminal:
            self.alive.discard(job_id)
        else:
            self.ended[job_id] = JobState.CANCELLED

    @invariant()
    def an_end_is_an_end(self) -> None:
        for job_id in self.alive:
            job = self.ledger.find_job(job_id, OWNER)
            if job.state is JobState.FAILED:
                self.ended.setdefault(job_id, JobState.FAILED)  # its attempts are used up
            assert self.ended.get(job_id) == (job.state if job.state.terminal else None)
            assert (self.ledger.find_result(job_id, OWNER) is not None) == (job.state is JobState.SUCCEEDED)

    @invariant()
    def nothing_appears_or_vanishes(self) -> None:
        assert {job.id for job in self.ledger.list_jobs(OWNER, limit=1000)} == self.alive


Life.TestCase.settings = settings(
    max_examples=20, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
test_a_jobs_life = Life.TestCase
