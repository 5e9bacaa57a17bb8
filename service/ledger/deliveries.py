"""Webhooks to be delivered: noted with the job, due from the very transaction that ends it, gone once delivered.

At least once: who takes a delivery has it for a while, and whoever finds it after that sends it again.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from service.job import JobState
from service.ledger.database import Database
from service.ledger.rows import moment
from service.ledger.tables import deliveries


@dataclass(frozen=True)
class Delivery:
    """One try to tell a caller that a job has ended: `attempts` counts this one."""

    job_id: str
    address: str
    status: str
    ended_at: datetime
    attempts: int


class Deliveries(Database):
    """What those who deliver ask of the ledger."""

    def take_delivery(self, target: str, hold_seconds: float) -> Delivery | None:
        """Take the delivery that has been due longest, of those to one target.

        It is this caller's for `hold_seconds`; then it may be taken, and sent, again.
        """
        with self.read() as (connection, now):
            if connection.execute(_due(target, now)).first() is None:
                return None
        with self.write(durable=False) as (connection, now):
            due = _due(target, now).with_for_update(skip_locked=True).scalar_subquery()
            values = {"attempts": deliveries.c.attempts + 1, "taken_until": now + hold_seconds}
            statement = sa.update(deliveries).where(deliveries.c.job_id == due).values(values).returning(deliveries)
            row = connection.execute(statement).one_or_none()
        if row is None:
            return None
        return Delivery(row.job_id, row.address, row.status, moment(row.ended_at), row.attempts)

    def postpone_delivery(self, delivery: Delivery, delay_seconds: float) -> None:
        """Have it tried again after the delay; nothing happens where somebody else has taken it meanwhile."""
        with self.write() as (connection, now):
            values = {"due_at": now + delay_seconds, "taken_until": now}
            connection.execute(sa.update(deliveries).where(*_fence(delivery)).values(values))

    def end_delivery(self, delivery: Delivery) -> None:
        """Remove it: it has been delivered, or given up."""
        with self.write() as (connection, _):
            connection.execute(sa.delete(deliveries).where(*_fence(delivery)))

    def count_deliveries(self) -> int:
        """Return how many webhooks of ended jobs have not been delivered."""
        query = sa.select(sa.func.count()).select_from(deliveries).where(deliveries.c.due_at.is_not(None))
        with self.read() as (connection, _):
            return int(connection.execute(query).scalar_one())


def note_webhook(connection: sa.Connection, job_id: str, target: str, address: str) -> None:
    """Note where the end of a new job is to be told; part of the transaction that accepts it."""
    values = {"job_id": job_id, "target": target, "address": address, "attempts": 0, "taken_until": 0.0}
    connection.execute(sa.insert(deliveries).values(values))


def announce_ends(connection: sa.Connection, now: float, job_ids: Collection[str], state: JobState) -> None:
    """Make the webhooks of jobs due; part of the transaction that ends them."""
    values = {"status": state.public, "ended_at": now, "due_at": now}
    connection.execute(sa.update(deliveries).where(deliveries.c.job_id.in_(job_ids)).values(values))


def _due(target: str, now: float) -> sa.Select[tuple[str]]:
    due = (deliveries.c.target == target, deliveries.c.due_at <= now, deliveries.c.taken_until <= now)
    return sa.select(deliveries.c.job_id).where(*due).order_by(deliveries.c.due_at, deliveries.c.job_id).limit(1)


def _fence(delivery: Delivery) -> tuple[sa.ColumnElement[bool], ...]:
    return deliveries.c.job_id == delivery.job_id, deliveries.c.attempts == delivery.attempts
