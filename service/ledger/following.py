"""What those who follow jobs ask of the ledger, for many jobs at once."""

from collections.abc import Collection
from dataclasses import dataclass

import sqlalchemy as sa

from service.job import JobState
from service.ledger.database import Database
from service.ledger.requests import WAITING
from service.ledger.tables import jobs, processes

RECENT_RUNS = 20
MOST_RUNNING = 1000


@dataclass(frozen=True)
class Load:
    """How busy the service is, and how fast it has been.

    Attributes:
        run_seconds: how long the last jobs that succeeded ran, the latest first.
        running_seconds: for how long each running job has been running.
        slots: how many jobs the live workers run at once.
    """

    run_seconds: tuple[float, ...]
    running_seconds: tuple[float, ...]
    slots: int


class Following(Database):
    """Versions, places in the queue, and the figures behind estimates."""

    def find_versions(self, job_ids: Collection[str]) -> dict[str, int]:
        """Return the versions of those of the jobs that exist."""
        query = sa.select(jobs.c.id, jobs.c.version).where(jobs.c.id.in_(job_ids))
        with self.read() as (connection, _):
            return {str(row.id): int(row.version) for row in connection.execute(query)}

    def queue_positions(self, job_ids: Collection[str]) -> dict[str, int]:
        """Return the places in the queue, 1 being next, of those of the jobs that wait; see `queue_position`."""
        order = sa.func.row_number().over(order_by=(jobs.c.item, jobs.c.created_at, jobs.c.id))
        queue = sa.select(jobs.c.id, order.label("place")).where(jobs.c.state.in_(WAITING)).subquery()
        query = sa.select(queue.c.id, queue.c.place).where(queue.c.id.in_(job_ids))
        with self.read() as (connection, _):
            return {str(row.id): int(row.place) for row in connection.execute(query)}

    def measure_load(self, beat_within_seconds: float) -> Load:
        """Return what estimates are made of.

        Args:
            beat_within_seconds: workers whose last heartbeat is older do not count.
        """
        ended = sa.select(jobs.c.finished_at - jobs.c.started_at).where(
            jobs.c.state == JobState.SUCCEEDED, jobs.c.finished_at.is_not(None)
        )
        recent = ended.order_by(jobs.c.finished_at.desc()).limit(RECENT_RUNS)
        running = sa.select(jobs.c.started_at).where(jobs.c.state == JobState.RUNNING).limit(MOST_RUNNING)
        with self.read() as (connection, now):
            alive = (processes.c.kind == "worker", processes.c.beat_at >= now - beat_within_seconds)
            slots = sa.select(sa.func.coalesce(sa.func.sum(processes.c.slots), 0)).where(*alive)
            return Load(
                tuple(max(0.0, seconds) for seconds in connection.execute(recent).scalars()),
                tuple(max(0.0, now - began) for began in connection.execute(running).scalars()),
                int(connection.execute(slots).scalar_one()),
            )
