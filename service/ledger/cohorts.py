"""The callers' side of cohorts: a manifest comes first, then the files of each item, which make an ordinary job.

A job of a cohort carries the cohort's id and its item's number; an item without such a job still awaits its files.
"""

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from service.errors import IdempotencyConflict, NotFound
from service.job import Job, JobRequest, JobState
from service.ledger.database import Database
from service.ledger.requests import UNFINISHED, digest_key, emptied, insert_job, parse_cursor
from service.ledger.rows import Cohort, CohortItem, to_cohort, to_job
from service.ledger.tables import cohort_items, cohorts, jobs, results

REPLACEABLE = (JobState.FAILED, JobState.CANCELLED)
RECENT_ENDS = 50


class Cohorts(Database):
    """What the API asks of the ledger about cohorts. Every read checks the owner."""

    def create_cohort(
        self,
        *,
        cohort_id: str,
        owner: str,
        options: Mapping[str, Any],
        columns: Sequence[str],
        rows: Sequence[Sequence[str]],
        idempotency_key: str | None,
    ) -> tuple[Cohort, bool]:
        """Record a manifest.

        Args:
            cohort_id: uuid4, hexadecimal.
            owner: whose it is.
            options: fields of the form that hold for every item.
            columns: names of the manifest's columns.
            rows: its rows, with as many cells each.
            idempotency_key: the caller's, if any.

        Returns:
            The cohort and True; or, for a key seen before with the same content, the earlier cohort and False.

        Raises:
            IdempotencyConflict: the key was used for other content.
        """
        digest = digest_key(idempotency_key)
        values = {
            "id": cohort_id,
            "owner": owner,
            "options": json.dumps(options, sort_keys=True),
            "columns": json.dumps(columns),
            "items": len(rows),
            "key_digest": digest,
            "fingerprint": _fingerprint(options, columns, rows),
        }

        def insert(connection: sa.Connection, now: float) -> Cohort:
            row = connection.execute(sa.insert(cohorts).values(values | {"created_at": now}).returning(cohorts)).one()
            items = [
                {"cohort_id": cohort_id, "item": number, "cells": json.dumps(list(cells))}
                for number, cells in enumerate(rows, 1)
            ]
            connection.execute(sa.insert(cohort_items), items)
            return to_cohort(row)

        return self.insert_once(lambda connection: _earlier(connection, values), insert)

    def find_cohort(self, cohort_id: str, owner: str) -> Cohort:
        """Return the owner's cohort.

        Raises:
            NotFound: there is none, or it is another owner's.
        """
        with self.read() as (connection, _):
            return _find(connection, cohort_id, owner)

    def list_cohorts(self, owner: str, *, limit: int, before: str | None = None) -> list[Cohort]:
        """Return the owner's cohorts, newest first.

        Args:
            owner: whose.
            limit: most cohorts to return.
            before: the `cursor` of the last cohort already seen.

        Raises:
            InvalidField: `before` is not a cursor.
        """
        query = sa.select(cohorts).where(cohorts.c.owner == owner, cohorts.c.removed_at.is_(None))
        if before is not None:
            created_at, cohort_id = parse_cursor(before)
            place = sa.tuple_(cohorts.c.created_at, cohorts.c.id)
            query = query.where(place < sa.tuple_(sa.literal(created_at, sa.Double), sa.literal(cohort_id)))
        query = query.order_by(cohorts.c.created_at.desc(), cohorts.c.id.desc()).limit(limit)
        with self.read() as (connection, _):
            return [to_cohort(row) for row in connection.execute(query)]

    def tally(self, cohort_id: str) -> dict[JobState, int]:
        """Return how many of the cohort's jobs are in each state; the other items await their files."""
        query = sa.select(jobs.c.state, sa.func.count().label("jobs")).where(jobs.c.cohort_id == cohort_id)
        with self.read() as (connection, _):
            found = {str(row.state): int(row.jobs) for row in connection.execute(query.group_by(jobs.c.state))}
        return {state: found.get(state, 0) for state in JobState}

    def seconds_per_item(self, cohort_id: str) -> float | None:
        """Return the mean time from one end of an item to the next, over the last ones; None before the third."""
        ended = sa.select(jobs.c.finished_at).where(jobs.c.cohort_id == cohort_id, jobs.c.finished_at.is_not(None))
        recent = ended.order_by(jobs.c.finished_at.desc()).limit(RECENT_ENDS)
        with self.read() as (connection, now):
            times = list(connection.execute(recent).scalars())
        return (now - times[-1]) / len(times) if len(times) > 2 else None

    def find_item(self, cohort_id: str, owner: str, item: int) -> tuple[Cohort, CohortItem]:
        """Return one item and its cohort.

        Raises:
            NotFound: there is no such cohort of the owner's, or no such item in it.
        """
        query = _items(cohort_id, item - 1, 1).where(cohort_items.c.item == item)
        with self.read() as (connection, _):
            cohort = _find(connection, cohort_id, owner)
            row = connection.execute(query).one_or_none()
        if row is None:
            raise NotFound("the cohort has no such item")
        return cohort, _to_item(row)

    def list_items(
        self,
        cohort_id: str,
        owner: str,
        *,
        after: int,
        limit: int,
        states: Collection[JobState] | None = None,
        awaiting: bool | None = None,
    ) -> list[CohortItem]:
        """Return items in the order of the manifest.

        Args:
            cohort_id: of which cohort.
            owner: whose.
            after: the number of the last item already seen.
            limit: most items to return.
            states: only those whose job is in one of these.
            awaiting: only those that still await their files.

        Raises:
            NotFound: there is no such cohort of the owner's.
        """
        query = _items(cohort_id, after, limit)
        if states is not None:
            query = query.where(jobs.c.state.in_(states))
        if awaiting:
            query = query.where(jobs.c.id.is_(None))
        with self.read() as (connection, _):
            _find(connection, cohort_id, owner)
            return [_to_item(row) for row in connection.execute(query)]

    def list_item_results(
        self, cohort_id: str, owner: str, *, after: int, limit: int
    ) -> Iterator[tuple[CohortItem, dict[str, Any] | None]]:
        """Yield items in the order of the manifest, each with the result document of its job where it has one.

        One document is held at a time beside the texts of this page.

        Raises:
            NotFound: there is no such cohort of the owner's.
        """
        query = _items(cohort_id, after, limit).add_columns(results.c.document)
        with self.read() as (connection, _):
            _find(connection, cohort_id, owner)
            rows = connection.execute(query.outerjoin(results, results.c.job_id == jobs.c.id)).all()
        for row in rows:
            yield _to_item(row), None if row.document is None else json.loads(row.document)

    def create_item_job(
        self, cohort_id: str, item: int, *, job_id: str, owner: str, request: JobRequest, case_id: str | None
    ) -> tuple[Job, str | None]:
        """Make the job of an item, in place of one that has failed or was cancelled.

        Returns:
            The job, or the one that the same content made before; and the id of the job replaced, whose files are to
            be removed.

        Raises:
            NotFound: there is no such cohort of the owner's, or no such item in it.
            IdempotencyConflict: the item has a job for other content that is not over, or has succeeded.
        """
        with self.write() as (connection, now):
            # The locks (of PostgreSQL): no removal of the cohort, and nobody else with this item, meanwhile.
            _find(connection, cohort_id, owner, lock=True)
            place = (cohort_items.c.cohort_id == cohort_id, cohort_items.c.item == item)
            if connection.execute(sa.select(cohort_items.c.item).where(*place).with_for_update()).first() is None:
                raise NotFound("the cohort has no such item")
            earlier = connection.execute(
                sa.select(jobs).where(jobs.c.cohort_id == cohort_id, jobs.c.item == item)
            ).one_or_none()
            if earlier is not None:
                job = to_job(earlier)
                if job.request is not None and job.request.fingerprint(job.case_id) == request.fingerprint(case_id):
                    return job, None
                if job.state not in REPLACEABLE:
                    raise IdempotencyConflict("the item has a job already, for other files")
                connection.execute(sa.delete(jobs).where(jobs.c.id == job.id))
            values = {"id": job_id, "owner": owner, "request": request.model_dump_json(), "case_id": case_id}
            place_values = {"cohort_id": cohort_id, "item": item, "taken_until": now}
            row = insert_job(connection, now, values | place_values)
            return to_job(row), None if earlier is None else str(earlier.id)

    def cancel_cohort(self, cohort_id: str, owner: str) -> list[str]:
        """Cancel the cohort's jobs that have not ended; returns them, for their files are to be removed.

        Raises:
            NotFound: there is no such cohort of the owner's.
        """
        with self.write() as (connection, now):
            _find(connection, cohort_id, owner)
            return _cancel(connection, now, cohort_id)

    def doom_cohort(self, cohort_id: str, owner: str) -> None:
        """Make a cohort vanish from its owner's sight, for `service.removal` to remove; cancel what has not ended.

        Raises:
            NotFound: there is no such cohort of the owner's.
        """
        mine = (cohorts.c.id == cohort_id, cohorts.c.owner == owner, cohorts.c.removed_at.is_(None))
        with self.write() as (connection, now):
            statement = sa.update(cohorts).where(*mine).values(removed_at=now, key_digest=None)
            if not connection.execute(statement).rowcount:
                raise NotFound("there is no such cohort")
            _cancel(connection, now, cohort_id)


def _find(connection: sa.Connection, cohort_id: str, owner: str, *, lock: bool = False) -> Cohort:
    mine = (cohorts.c.id == cohort_id, cohorts.c.owner == owner, cohorts.c.removed_at.is_(None))
    query = sa.select(cohorts).where(*mine)
    row = connection.execute(query.with_for_update(read=True) if lock else query).one_or_none()
    if row is None:
        raise NotFound("there is no such cohort")
    return to_cohort(row)


def _items(cohort_id: str, after: int, limit: int) -> sa.Select[Any]:
    own = sa.and_(jobs.c.cohort_id == cohort_items.c.cohort_id, jobs.c.item == cohort_items.c.item)
    return (
        sa.select(cohort_items.c.item.label("number"), cohort_items.c.cells, jobs)
        .select_from(cohort_items.outerjoin(jobs, own))
        .where(cohort_items.c.cohort_id == cohort_id, cohort_items.c.item > after)
        .order_by(cohort_items.c.item)
        .limit(limit)
    )


def _to_item(row: sa.Row[Any]) -> CohortItem:
    return CohortItem(row.number, tuple(json.loads(row.cells)), None if row.id is None else to_job(row))


def _cancel(connection: sa.Connection, now: float, cohort_id: str) -> list[str]:
    unfinished = (jobs.c.cohort_id == cohort_id, jobs.c.state.in_(UNFINISHED))
    tombstone = emptied(JobState.CANCELLED) | {"finished_at": now}
    statement = sa.update(jobs).where(*unfinished).values(tombstone).returning(jobs.c.id)
    return [str(job_id) for job_id in connection.execute(statement).scalars()]


def _earlier(connection: sa.Connection, values: Mapping[str, Any]) -> Cohort | None:
    if values["key_digest"] is None:
        return None
    key = (cohorts.c.owner == values["owner"], cohorts.c.key_digest == values["key_digest"])
    row = connection.execute(sa.select(cohorts).where(*key)).one_or_none()
    if row is None:
        return None
    if row.fingerprint != values["fingerprint"]:
        raise IdempotencyConflict("the manifest or the options differ from those first sent with this key")
    return to_cohort(row)


def _fingerprint(options: Mapping[str, Any], columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    digest = hashlib.sha256(json.dumps([options, list(columns)], sort_keys=True).encode())
    for cells in rows:
        digest.update(json.dumps(list(cells)).encode())
    return digest.hexdigest()
