"""The callers' side of the ledger: submit, look up, list, remove. Every read checks the owner."""

import hashlib
import json
from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

from service.errors import IdempotencyConflict, InvalidField, NotFound
from service.job import Job, JobRequest, JobState
from service.ledger.database import Database
from service.ledger.deliveries import announce_ends, note_webhook
from service.ledger.rows import to_job
from service.ledger.tables import idempotency, jobs, results

WAITING = (JobState.ACCEPTED, JobState.QUEUED)
UNFINISHED = (*WAITING, JobState.RUNNING)


class Requests(Database):
    """What the API asks of the ledger."""

    def create_job(
        self,
        *,
        job_id: str,
        owner: str,
        request: JobRequest,
        case_id: str | None,
        idempotency_key: str | None,
        taken_seconds: float = 0,
        webhook_target: str | None = None,
    ) -> tuple[Job, bool]:
        """Accept a job; once this returns, the job is never lost.

        Args:
            job_id: uuid4, hexadecimal.
            owner: whose it is.
            request: what was asked for.
            case_id: the caller's pseudonym.
            idempotency_key: the caller's, if any.
            taken_seconds: for how long it is the caller's to publish, before the dispatcher does.
            webhook_target: the entry of the operator's list that the request's webhook is of, where it has one.

        Returns:
            The job and True; or, for an idempotency key seen before with the same content, the earlier job
            and False.

        Raises:
            IdempotencyConflict: the key was used for other content.
        """
        digest = digest_key(idempotency_key)
        fingerprint = request.fingerprint(case_id)

        def insert(connection: sa.Connection, now: float) -> Job:
            values = {"id": job_id, "owner": owner, "request": request.model_dump_json(), "case_id": case_id}
            row = insert_job(connection, now, values | {"taken_until": now + taken_seconds})
            if webhook_target is not None and request.webhook is not None:
                note_webhook(connection, job_id, webhook_target, request.webhook)
            if digest is not None:
                key = {"owner": owner, "key_digest": digest, "fingerprint": fingerprint, "job_id": job_id}
                connection.execute(sa.insert(idempotency).values(key))
            return to_job(row)

        return self.insert_once(lambda connection: _earlier(connection, owner, digest, fingerprint), insert)

    def find_job(self, job_id: str, owner: str) -> Job:
        """Return the owner's job.

        Raises:
            NotFound: there is none, or it is another owner's.
        """
        with self.read() as (connection, _):
            row = connection.execute(sa.select(jobs).where(jobs.c.id == job_id, jobs.c.owner == owner)).one_or_none()
        if row is None:
            raise NotFound("there is no such job")
        return to_job(row)

    def list_jobs(
        self, owner: str, *, limit: int, before: str | None = None, states: Collection[JobState] | None = None
    ) -> list[Job]:
        """Return the owner's jobs, newest first.

        Args:
            owner: whose.
            limit: most jobs to return.
            before: the `cursor` of the last job already seen; jobs that arrive meanwhile do not shift the page.
            states: only these.

        Raises:
            InvalidField: `before` is not a cursor.
        """
        query = sa.select(jobs).where(jobs.c.owner == owner)
        if before is not None:
            created_at, job_id = parse_cursor(before)
            place = sa.tuple_(jobs.c.created_at, jobs.c.id)
            query = query.where(place < sa.tuple_(sa.literal(created_at, sa.Double), sa.literal(job_id)))
        if states is not None:
            query = query.where(jobs.c.state.in_(states))
        query = query.order_by(jobs.c.created_at.desc(), jobs.c.id.desc()).limit(limit)
        with self.read() as (connection, _):
            return [to_job(row) for row in connection.execute(query)]

    def find_job_with_result(self, job_id: str, owner: str) -> tuple[Job, dict[str, Any] | None]:
        """Return the owner's job, and its result document where it has one, in one look.

        Raises:
            NotFound: as `find_job`.
        """
        query = sa.select(jobs, results.c.document).outerjoin(results)
        with self.read() as (connection, _):
            row = connection.execute(query.where(jobs.c.id == job_id, jobs.c.owner == owner)).one_or_none()
        if row is None:
            raise NotFound("there is no such job")
        return to_job(row), None if row.document is None else dict(json.loads(row.document))

    def find_result(self, job_id: str, owner: str) -> dict[str, Any] | None:
        """Return the result document of the owner's job, or None."""
        text = self._find_result_column(results.c.document, job_id, owner)
        return None if text is None else dict(json.loads(text))

    def find_preview(self, job_id: str, owner: str) -> bytes | None:
        """Return the preview picture (PNG) of the owner's job, or None."""
        preview = self._find_result_column(results.c.preview, job_id, owner)
        return None if preview is None else bytes(preview)

    def queue_position(self, job_id: str) -> int | None:
        """Return the job's place in the queue, 1 for the next, or None where it does not wait.

        What was sent by itself stands before the items of cohorts.
        """
        own = jobs.alias("own")
        ahead = sa.tuple_(jobs.c.item, jobs.c.created_at, jobs.c.id) <= sa.tuple_(
            own.c.item, own.c.created_at, own.c.id
        )
        query = (
            sa.select(sa.func.count())
            .select_from(own.join(jobs, ahead))
            .where(own.c.id == job_id, own.c.state.in_(WAITING), jobs.c.state.in_(WAITING))
        )
        with self.read() as (connection, _):
            return connection.execute(query).scalar_one() or None

    def count_unfinished(self, owner: str | None = None, *, in_cohorts: bool = False) -> int:
        """Return how many jobs have not ended: of those sent by themselves or of cohorts', all or one owner's."""
        lane = jobs.c.item > 0 if in_cohorts else jobs.c.item == 0
        query = sa.select(sa.func.count()).select_from(jobs).where(jobs.c.state.in_(UNFINISHED), lane)
        if owner is not None:
            query = query.where(jobs.c.owner == owner)
        with self.read() as (connection, _):
            return int(connection.execute(query).scalar_one())

    def count_states(self) -> dict[JobState, int]:
        """Return how many jobs are in each state."""
        query = sa.select(jobs.c.state, sa.func.count().label("jobs")).group_by(jobs.c.state)
        with self.read() as (connection, _):
            found = {str(row.state): int(row.jobs) for row in connection.execute(query)}
        return {state: found.get(state, 0) for state in JobState}

    def remove_job(self, job_id: str, owner: str) -> Job:
        """Remove the job and its content; the caller deletes its files.

        An unfinished job becomes a `cancelled` tombstone without content, so that its worker learns of it; a
        finished one is gone.

        Returns:
            The tombstone, or the job that was.

        Raises:
            NotFound: there is none, or it is another owner's.
        """
        mine = (jobs.c.id == job_id, jobs.c.owner == owner)
        with self.write() as (connection, now):
            row = connection.execute(sa.select(jobs).where(*mine).with_for_update()).one_or_none()
            if row is None:
                raise NotFound("there is no such job")
            if JobState(row.state).terminal:
                connection.execute(sa.delete(jobs).where(*mine))
                return to_job(row)
            connection.execute(sa.delete(idempotency).where(idempotency.c.job_id == job_id))
            announce_ends(connection, now, [job_id], JobState.CANCELLED)
            tombstone = emptied(JobState.CANCELLED) | {"finished_at": now}
            return to_job(connection.execute(sa.update(jobs).where(*mine).values(tombstone).returning(jobs)).one())

    def _find_result_column(self, column: sa.Column[Any], job_id: str, owner: str) -> Any:
        query = sa.select(column).join(jobs).where(jobs.c.id == job_id, jobs.c.owner == owner)
        with self.read() as (connection, _):
            return connection.execute(query).scalar_one_or_none()


def emptied(state: JobState) -> dict[str, Any]:
    """Return the column values of a tombstone: the state, and nothing of the case."""
    nothing = dict.fromkeys(("request", "case_id", "problem", "stage", "worker", "lease_until"))
    return {"state": state, "version": jobs.c.version + 1, **nothing}


def _earlier(connection: sa.Connection, owner: str, digest: str | None, fingerprint: str) -> Job | None:
    if digest is None:
        return None
    key = (idempotency.c.owner == owner, idempotency.c.key_digest == digest)
    row = connection.execute(sa.select(idempotency).where(*key)).one_or_none()
    if row is None:
        return None
    if row.fingerprint != fingerprint:
        raise IdempotencyConflict("the files or the options differ from those first sent with this key")
    return to_job(connection.execute(sa.select(jobs).where(jobs.c.id == row.job_id)).one())


def digest_key(idempotency_key: str | None) -> str | None:
    """Return the SHA-256 of a caller's key, which may hold anything; None for none."""
    return None if idempotency_key is None else hashlib.sha256(idempotency_key.encode()).hexdigest()


def insert_job(connection: sa.Connection, now: float, values: dict[str, Any]) -> sa.Row[Any]:
    """Insert an accepted job."""
    fresh = {
        "state": JobState.ACCEPTED,
        "attempt": 0,
        "version": 1,
        "created_at": now,
        "not_before": now,
        "sends": 0,
    }
    return connection.execute(sa.insert(jobs).values(fresh | values).returning(jobs)).one()


def parse_cursor(cursor: str) -> tuple[float, str]:
    """Return the creation time (seconds since 1970) and the id that a cursor holds.

    Raises:
        InvalidField: it is not a cursor.
    """
    seconds, _, job_id = cursor.partition("-")
    try:
        return float(seconds), job_id
    except ValueError:
        raise InvalidField("`before` is not a cursor of this list", field="before") from None
