"""The work's side of the ledger: the outbox, claims, leases, the fenced end of a job."""

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

from service.errors import WorkerLost
from service.job import JobState
from service.ledger.database import Database
from service.ledger.deliveries import announce_ends
from service.ledger.requests import WAITING
from service.ledger.rows import Claim, to_job, to_text
from service.ledger.tables import jobs, results

PUBLISH_SECONDS = 5.0  # after this another dispatcher may publish a job that one has taken
LONGEST_DELAY_SECONDS = 60.0
DELAY_STEPS = 6
FIRST_STAGE = "reading"  # a claimed job is read at once
HARMLESS = (*WAITING, JobState.SUCCEEDED, JobState.FAILED)


class Work(Database):
    """What the dispatcher and the workers ask of the ledger."""

    def take_accepted(self, limit: int) -> list[str]:
        """Take up to `limit` accepted jobs, oldest first, to publish them; not those of cohorts.

        They are this caller's for a few seconds; `mark_queued` says that they were published.
        """
        return self._take(jobs.c.item == 0, limit)

    def take_items(self, window: int) -> list[str]:
        """Take accepted jobs of cohorts, first items first, once half of the `window` or less is with the broker.

        It never holds many: what it has lost or forgotten is soon sent again, and the order stays the ledger's.
        """
        published = sa.select(jobs.c.id).where(jobs.c.state == JobState.QUEUED, jobs.c.item > 0).limit(window)
        with self.read() as (connection, _):
            held = len(connection.execute(published).all())
        return self._take(jobs.c.item > 0, window - held) if held <= window // 2 else []

    def _take(self, lane: sa.ColumnElement[bool], limit: int) -> list[str]:
        with self.read() as (connection, now):
            if connection.execute(_publishable(now).where(lane).limit(1)).first() is None:
                return []
        with self.write(durable=False) as (connection, now):
            due = _publishable(now).where(lane).limit(limit).with_for_update(skip_locked=True)
            ids = [str(job_id) for job_id in connection.execute(due).scalars()]
            connection.execute(sa.update(jobs).where(jobs.c.id.in_(ids)).values(taken_until=now + PUBLISH_SECONDS))
        return ids

    def mark_queued(self, ids: Collection[str]) -> None:
        """Record that the broker has been told; a job that a worker has claimed meanwhile stays as it is."""
        still = sa.and_(jobs.c.id.in_(ids), jobs.c.state == JobState.ACCEPTED)
        with self.read() as (connection, _):
            if connection.execute(sa.select(jobs.c.id).where(still).limit(1)).first() is None:
                return
        with self.write(durable=False) as (connection, now):
            values = {"state": JobState.QUEUED, "queued_at": now, "taken_until": now, "sends": jobs.c.sends + 1}
            connection.execute(sa.update(jobs).where(still).values(values))

    def put_back(self, ids: Collection[str]) -> None:
        """Let taken jobs be taken again at once: they could not be published."""
        with self.write(durable=False) as (connection, now):
            still = sa.and_(jobs.c.id.in_(ids), jobs.c.state == JobState.ACCEPTED)
            connection.execute(sa.update(jobs).where(still).values(taken_until=now))

    def claim(self, job_id: str, worker: str, lease_seconds: float, max_attempts: int) -> Claim | None:
        """Claim a waiting job, or a running one whose lease has run out.

        A job whose attempts are used up fails here as `worker-lost`.

        Returns:
            The claim, or None where there is nothing to do: a duplicate delivery, a cancelled job.
        """
        with self.write(durable=False) as (connection, now):
            free = sa.or_(
                sa.and_(jobs.c.state.in_(WAITING), jobs.c.not_before <= now),
                sa.and_(jobs.c.state == JobState.RUNNING, jobs.c.lease_until < now),
            )
            values = {
                "state": JobState.RUNNING,
                "attempt": jobs.c.attempt + 1,
                "worker": worker,
                "lease_until": now + lease_seconds,
                "started_at": now,
                "stage": FIRST_STAGE,
                "version": jobs.c.version + 1,
            }
            due = sa.and_(jobs.c.id == job_id, free)
            statement = sa.update(jobs).where(due, jobs.c.attempt < max_attempts).values(values).returning(jobs)
            row = connection.execute(statement).one_or_none()
            if row is not None:
                return Claim(to_job(row), worker, row.attempt)
            exhaust(connection, now, due, max_attempts)
            return None

    def renew(self, worker: str, job_ids: Collection[str], lease_seconds: float) -> list[str]:
        """Renew the leases of the worker's running jobs.

        Returns:
            The jobs that it must stop: cancelled, removed, or running elsewhere. Not those that wait (not yet claimed,
            or taken back and not yet given out again) nor those that have just ended.
        """
        if not job_ids:
            return []
        with self.write(durable=False) as (connection, now):
            mine = sa.and_(jobs.c.id.in_(job_ids), jobs.c.worker == worker, jobs.c.state == JobState.RUNNING)
            renewal = sa.update(jobs).where(mine).values(lease_until=now + lease_seconds).returning(jobs.c.id)
            kept = set(connection.execute(renewal).scalars())
            harmless = sa.select(jobs.c.id).where(jobs.c.id.in_(job_ids), jobs.c.state.in_(HARMLESS))
            kept.update(connection.execute(harmless).scalars())
        return [job_id for job_id in job_ids if job_id not in kept]

    def report_stage(self, claim: Claim, stage: str) -> bool:
        """Record how far the job has come; False where it is no longer this claim's."""
        with self.write(durable=False) as (connection, _):
            values = {"stage": stage, "version": jobs.c.version + 1}
            return _update_fenced(connection, claim, values)

    def finish(self, claim: Claim, document: dict[str, Any]) -> bool:
        """Store the result and end the job, in one transaction; False where it is no longer this claim's."""
        text = to_text(document)
        with self.write() as (connection, now):
            if not _update_fenced(connection, claim, _ended(JobState.SUCCEEDED, now)):
                return False
            connection.execute(sa.insert(results).values(job_id=claim.job.id, document=text))
            _tell_end(connection, now, claim, JobState.SUCCEEDED)
            return True

    def add_preview(self, job_id: str, preview: bytes) -> None:
        """Add the picture to a stored result; nothing happens where that has been removed meanwhile."""
        with self.write() as (connection, _):
            connection.execute(sa.update(results).where(results.c.job_id == job_id).values(preview=preview))

    def fail(self, claim: Claim, problem: dict[str, Any]) -> bool:
        """End the job with a problem document; False where it is no longer this claim's."""
        with self.write() as (connection, now):
            values = _ended(JobState.FAILED, now) | {"problem": to_text(problem)}
            if not _update_fenced(connection, claim, values):
                return False
            _tell_end(connection, now, claim, JobState.FAILED)
            return True

    def release(self, job_id: str, worker: str, delay_seconds: float | None = None) -> bool:
        """Give the worker's job back, to be tried again after a delay; False where it was not its own.

        Args:
            job_id: the job.
            worker: who held it.
            delay_seconds: by default `retry_delay` of the attempts made so far.
        """
        with self.write() as (connection, now):
            held = sa.and_(jobs.c.id == job_id, jobs.c.worker == worker, jobs.c.state == JobState.RUNNING)
            return bool(give_back(connection, now, held, delay_seconds))

    def release_worker(self, worker: str, *, forgive: bool = False) -> int:
        """Give back at once every job of a worker that is gone or about to go; returns how many.

        Args:
            worker: who held them.
            forgive: do not count the attempt, for the worker was told to go and the job has no part in it. The fence
                holds all the same: no later worker has this name.
        """
        with self.write() as (connection, now):
            held = sa.and_(jobs.c.worker == worker, jobs.c.state == JobState.RUNNING)
            if forgive:
                connection.execute(sa.update(jobs).where(held).values(attempt=jobs.c.attempt - 1))
            return give_back(connection, now, held, 0.0)

    def fail_running(self, job_id: str, worker: str, problem: dict[str, Any]) -> bool:
        """End the worker's running job, whichever attempt it is at; False where it was not its own."""
        with self.write() as (connection, now):
            held = sa.and_(jobs.c.id == job_id, jobs.c.worker == worker, jobs.c.state == JobState.RUNNING)
            values = _ended(JobState.FAILED, now) | {"problem": to_text(problem)}
            return bool(_fail_all(connection, now, held, values))

    def list_holders(self) -> list[str]:
        """Return the workers that hold running jobs."""
        query = sa.select(jobs.c.worker).where(jobs.c.state == JobState.RUNNING, jobs.c.worker.is_not(None)).distinct()
        with self.read() as (connection, _):
            return [str(worker) for worker in connection.execute(query).scalars()]


def retry_delay(attempt: int) -> float:
    """Return the back-off in seconds after so many attempts: 0, 1, 3, 7, ... at most a minute."""
    return min(LONGEST_DELAY_SECONDS, 2.0 ** (attempt - 1) - 1.0)


def give_back(
    connection: sa.Connection, now: float, which: sa.ColumnElement[bool], delay_seconds: float | None = None
) -> int:
    """Put jobs back to accepted, to be published again after the delay; returns how many.

    Without a delay each waits `retry_delay` of its own attempts.
    """
    steps = [(jobs.c.attempt <= attempt, retry_delay(attempt)) for attempt in range(1, DELAY_STEPS)]
    delay = sa.case(*steps, else_=LONGEST_DELAY_SECONDS) if delay_seconds is None else sa.literal(delay_seconds)
    values = {
        "state": JobState.ACCEPTED,
        "worker": None,
        "lease_until": None,
        "stage": None,
        "version": jobs.c.version + 1,
        "not_before": now + delay,
        "taken_until": now,
    }
    return int(connection.execute(sa.update(jobs).where(which).values(values)).rowcount)


def exhaust(connection: sa.Connection, now: float, due: sa.ColumnElement[bool], max_attempts: int) -> int:
    """Fail, as `worker-lost`, those of the `due` jobs that have no attempt left; returns how many."""
    lost = WorkerLost(
        f"the job was tried {max_attempts} times and its worker was lost each time", attempts=max_attempts
    )
    values = _ended(JobState.FAILED, now) | {"problem": to_text(lost.problem(500))}
    return _fail_all(connection, now, sa.and_(due, jobs.c.attempt >= max_attempts), values)


def _publishable(now: float) -> sa.Select[tuple[str]]:
    due = (jobs.c.state == JobState.ACCEPTED, jobs.c.not_before <= now, jobs.c.taken_until <= now)
    return sa.select(jobs.c.id).where(*due).order_by(jobs.c.item, jobs.c.created_at, jobs.c.id)


def _fail_all(connection: sa.Connection, now: float, which: sa.ColumnElement[bool], values: dict[str, Any]) -> int:
    failed = connection.execute(sa.update(jobs).where(which).values(values).returning(jobs.c.id)).scalars().all()
    if failed:
        announce_ends(connection, now, failed, JobState.FAILED)
    return len(failed)


def _tell_end(connection: sa.Connection, now: float, claim: Claim, state: JobState) -> None:
    """Make the job's webhook due, where it has one."""
    if claim.job.request is not None and claim.job.request.webhook is not None:
        announce_ends(connection, now, [claim.job.id], state)


def _ended(state: JobState, now: float) -> dict[str, Any]:
    return {
        "state": state,
        "finished_at": now,
        "stage": None,
        "lease_until": None,
        "version": jobs.c.version + 1,
    }


def _update_fenced(connection: sa.Connection, claim: Claim, values: dict[str, Any]) -> bool:
    fence = (
        jobs.c.id == claim.job.id,
        jobs.c.worker == claim.worker,
        jobs.c.attempt == claim.attempt,
        jobs.c.state == JobState.RUNNING,
    )
    return bool(connection.execute(sa.update(jobs).where(*fence).values(values)).rowcount)
