"""Lost work found again, old content removed, and which processes live."""

from collections.abc import Collection

import sqlalchemy as sa

from service.job import JobState
from service.ledger.database import Database
from service.ledger.requests import UNFINISHED, emptied
from service.ledger.rows import Process, Reconciled, moment
from service.ledger.tables import cohorts, idempotency, jobs, processes, results
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
        the tombstone as long again after that. A cohort's jobs stay with it: it vanishes as a whole
        `retention_seconds` after its last job was made or ended, and `list_doomed` names its jobs.
        """
        with self.write() as (connection, now):
            expired = sa.and_(jobs.c.state == JobState.RUNNING, jobs.c.lease_until < now)
            failed = exhaust(connection, now, expired, max_attempts)
            recovered = give_back(connection, now, expired)
            requeued = _requeue(connection, now, now - requeue_seconds * _doublings())
            ended = now - retention_seconds
            delete = _expire(connection, ended)
            removed = _remove_tombstones(connection, ended, ended - retention_seconds)
            doomed = _doom_old_cohorts(connection, now, ended)
            connection.execute(sa.delete(processes).where(processes.c.beat_at < now - FORGET_PROCESS_SECONDS))
        found = {
            "failed": failed,
            "recovered": recovered,
            "requeued": requeued,
            "expired": len(delete),
            "removed": removed,
            "cohorts": doomed,
        }
        return Reconciled({name: count for name, count in found.items() if count}, delete)

    def list_doomed(self, limit: int, cohort_id: str | None = None) -> list[str]:
        """Return some jobs of cohorts (or of one) that have vanished from their owners' sight."""
        query = sa.select(jobs.c.id).join(cohorts, jobs.c.cohort_id == cohorts.c.id)
        query = query.where(cohorts.c.removed_at.is_not(None)).limit(limit)
        if cohort_id is not None:
            query = query.where(cohorts.c.id == cohort_id)
        with self.read() as (connection, _):
            return list(connection.execute(query).scalars())

    def erase_jobs(self, job_ids: Collection[str]) -> None:
        """Remove jobs and their results; the caller has removed their files."""
        with self.write() as (connection, _):
            connection.execute(sa.delete(jobs).where(jobs.c.id.in_(job_ids)))

    def erase_cohorts(self) -> int:
        """Remove the vanished cohorts that have no job left; returns how many."""
        empty = sa.and_(cohorts.c.removed_at.is_not(None), ~sa.exists().where(jobs.c.cohort_id == cohorts.c.id))
        with self.read() as (connection, _):
            if connection.execute(sa.select(cohorts.c.id).where(empty).limit(1)).first() is None:
                return 0
        with self.write() as (connection, _):
            return int(connection.execute(sa.delete(cohorts).where(empty)).rowcount)

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

    def beat(self, name: str, kind: str, slots: int | None = None) -> None:
        """Record that a process lives; of a worker also how many jobs it runs at once."""
        with self.write(durable=False) as (connection, now):
            update = sa.update(processes).where(processes.c.name == name).values(beat_at=now, slots=slots)
            if not connection.execute(update).rowcount:
                connection.execute(sa.insert(processes).values(name=name, kind=kind, beat_at=now, slots=slots))

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
    old = (
        jobs.c.state.in_((JobState.SUCCEEDED, JobState.FAILED)),
        jobs.c.finished_at < ended_before,
        jobs.c.cohort_id.is_(None),
    )
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
    alone = jobs.c.cohort_id.is_(None)
    return int(connection.execute(sa.delete(jobs).where(old, alone)).rowcount)


def _doom_old_cohorts(connection: sa.Connection, now: float, idle_since: float) -> int:
    alive = sa.exists().where(
        jobs.c.cohort_id == cohorts.c.id,
        sa.or_(jobs.c.state.in_(UNFINISHED), jobs.c.created_at >= idle_since, jobs.c.finished_at >= idle_since),
    )
    old = (cohorts.c.created_at < idle_since, cohorts.c.removed_at.is_(None), ~alive)
    values = {"removed_at": now, "key_digest": None}
    return int(connection.execute(sa.update(cohorts).where(*old).values(values)).rowcount)
