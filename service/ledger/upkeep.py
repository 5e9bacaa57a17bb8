"""Lost work found again, old content removed, and which processes live."""

from collections.abc import Collection

import sqlalchemy as sa

from service.job import JobState
from service.ledger.database import Database
from service.ledger.requests import UNFINISHED, emptied
from service.ledger.rows import Process, Reconciled, moment
from service.ledger.tables import idempotency, jobs, processes, results
from service.ledger.work import exhaust, give_back

MAX_DOUBLINGS = 6
FORGET_PROCESS_SECONDS = 86_400.0


class Upkeep(Database):
    """What the dispatcher does every few seconds."""

    def reconcile(self, *, requeue_seconds: float, max_attempts: int, retention_seconds: float) -> Reconciled:
        """Take back lost work and expire old content.

        A running job whose lease has run out goes back to accepted (or fails, without attempts left); so does a
        queued one that nobody has claimed for `requeue_seconds`, a time that doubles with every send, since a
        job may also wait because the queue is long. Content is removed `retention_seconds` after the end and
        the tombstone as long again after that.
        """
        with self.write() as (connection, now):
            expired = sa.and_(jobs.c.state == JobState.RUNNING, jobs.c.lease_until < now)
            failed = exhaust(connection, now, expired, max_attempts)
            recovered = give_back(connection, now, expired)
            requeued = _requeue(connection, now, now - requeue_seconds * _doublings())
            ended = now - retention_seconds
            delete = _expire(connection, ended)
            removed = _remove_tombstones(connection, ended, ended - retention_seconds)
            connection.execute(sa.delete(processes).where(processes.c.beat_at < now - FORGET_PROCESS_SECONDS))
        found = {
            "failed": failed,
            "recovered": recovered,
            "requeued": requeued,
            "expired": len(delete),
            "removed": removed,
        }
        return Reconciled({name: count for name, count in found.items() if count}, delete)

    def requeue(self) -> int:
        """Send every queued job again, for the broker has forgotten them; returns how many."""
        with self.write() as (connection, now):
            return _requeue(connection, now, now)

    def need_files(self, job_ids: Collection[str], *, keep_inputs: bool) -> set[str]:
        """Return those of the jobs whose uploads must stay: unfinished, or with `keep_inputs` also ended ones."""
        states = (*UNFINISHED, JobState.SUCCEEDED, JobState.FAILED) if keep_inputs else UNFINISHED
        query = sa.select(jobs.c.id).where(jobs.c.id.in_(job_ids), jobs.c.state.in_(states))
        with self.read() as (connection, _):
            return set(connection.execute(query).scalars())

    def know(self, job_ids: Collection[str]) -> set[str]:
        """Return those of the jobs that the ledger has a row of."""
        with self.read() as (connection, _):
            return set(connection.execute(sa.select(jobs.c.id).where(jobs.c.id.in_(job_ids))).scalars())

    def beat(self, name: str, kind: str) -> None:
        """Record that a process lives."""
        with self.write(durable=False) as (connection, now):
            update = sa.update(processes).where(processes.c.name == name).values(beat_at=now)
            if not connection.execute(update).rowcount:
                connection.execute(sa.insert(processes).values(name=name, kind=kind, beat_at=now))

    def report_device(self, name: str, device: str) -> None:
        """Record what a worker's encoder really runs on."""
        with self.write(durable=False) as (connection, _):
            connection.execute(sa.update(processes).where(processes.c.name == name).values(device=device))

    def leave(self, name: str) -> None:
        """Record that a process has ended in order."""
        with self.write(durable=False) as (connection, _):
            connection.execute(sa.delete(processes).where(processes.c.name == name))

    def list_processes(self, within_seconds: float) -> list[Process]:
        """Return the processes whose last heartbeat is at most this old."""
        with self.read() as (connection, now):
            query = sa.select(processes).where(processes.c.beat_at >= now - within_seconds)
            rows = connection.execute(query.order_by(processes.c.kind, processes.c.name))
            return [Process(row.name, row.kind, row.device, moment(row.beat_at)) for row in rows]


def _doublings() -> sa.ColumnElement[float]:
    steps = [(jobs.c.sends <= sends, 2.0 ** (sends - 1)) for sends in range(1, MAX_DOUBLINGS)]
    return sa.case(*steps, else_=2.0 ** (MAX_DOUBLINGS - 1))


def _requeue(connection: sa.Connection, now: float, queued_before: float | sa.ColumnElement[float]) -> int:
    stale = sa.and_(jobs.c.state == JobState.QUEUED, jobs.c.queued_at <= queued_before)
    return give_back(connection, now, stale, 0.0)


def _expire(connection: sa.Connection, ended_before: float) -> tuple[str, ...]:
    old = (jobs.c.state.in_((JobState.SUCCEEDED, JobState.FAILED)), jobs.c.finished_at < ended_before)
    statement = sa.update(jobs).where(*old).values(emptied(JobState.EXPIRED)).returning(jobs.c.id)
    ids = tuple(connection.execute(statement).scalars())
    if ids:
        connection.execute(sa.delete(results).where(results.c.job_id.in_(ids)))
        connection.execute(sa.delete(idempotency).where(idempotency.c.job_id.in_(ids)))
    return ids


def _remove_tombstones(connection: sa.Connection, cancelled_before: float, ended_before: float) -> int:
    old = sa.or_(
        sa.and_(jobs.c.state == JobState.CANCELLED, jobs.c.finished_at < cancelled_before),
        sa.and_(jobs.c.state == JobState.EXPIRED, jobs.c.finished_at < ended_before),
    )
    return int(connection.execute(sa.delete(jobs).where(old)).rowcount)
