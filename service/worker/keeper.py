"""The parent's part in a running job: its lease, its end when it is cancelled, its release when its child dies.

The heartbeat is here and not in the child, for native code there may hold the interpreter for minutes. It is a thread
and not a timer of Celery's event loop, since that loop stands still while Redis is away.
"""

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy.exc import SQLAlchemyError

from service import log
from service.config import Settings
from service.errors import OutOfTime
from service.ledger import Ledger

# A delivery that finds nothing to do is over long before; only after this does a child count as running a job.
SETTLE_SECONDS = 2.0
_logger = log.logger("keeper")


@dataclass(frozen=True)
class Held:
    """A job that a child was given, and when (monotonic seconds)."""

    job_id: str
    since: float


class Keeper:
    """Knows which child has which job. One per worker process, in the parent."""

    def __init__(self, ledger: Ledger, name: str, values: Settings) -> None:
        self.name = name
        self._ledger = ledger
        self._settings = values
        self._held: dict[int, Held] = {}
        self._at_work = threading.Lock()
        self._over = threading.Event()

    def start(self) -> None:
        """Begin the heartbeat.

        A fork copies every lock in the state it is in, those of the database driver too. So children are only made
        while the heartbeat is not at work.
        """
        os.register_at_fork(
            before=self._at_work.acquire,
            after_in_parent=self._at_work.release,
            after_in_child=self._at_work.release,
        )
        threading.Thread(target=self._beat_on, name="keeper", daemon=True).start()

    def stop(self) -> None:
        """End the heartbeat and say goodbye in the ledger."""
        self._over.set()
        self._guarded("leave", lambda: self._ledger.leave(self.name))

    def hold(self, child: int, job_id: str) -> None:
        """Note that a child has begun with a job."""
        self._held[child] = Held(job_id, time.monotonic())

    def drop(self, child: int) -> None:
        """Note that a child is free again."""
        self._held.pop(child, None)

    def release(self, job_id: str) -> None:
        """Give a job back whose child is gone; nothing happens where it had ended before."""
        self._guarded("release", lambda: self._tell(job_id, self._ledger.release(job_id, self.name)))

    def fail_out_of_time(self, job_id: str) -> None:
        """End a job whose child did not stop at the time limit and was killed."""
        limit = self._settings.job_seconds
        problem = OutOfTime(f"the case took longer than {limit} s", limit_seconds=limit).problem(422)
        self._guarded("out-of-time", lambda: self._ledger.fail_running(job_id, self.name, problem))

    def release_all(self) -> None:
        """Give every running job back, so that another worker takes it at once."""
        self._guarded("release-all", lambda: self._ledger.release_worker(self.name, forgive=True))

    def beat(self) -> None:
        """Renew the leases of what runs, and kill the children of what must not."""
        held = dict(self._held)
        with self._at_work:
            self._ledger.beat(self.name, "worker", self._settings.workers)
            ended = set(self._ledger.renew(self.name, [h.job_id for h in held.values()], self._settings.lease_seconds))
        for child, job in held.items():
            settled = time.monotonic() - job.since > SETTLE_SECONDS
            if job.job_id in ended and settled and self._held.get(child) is job:
                _logger.warning("child-killed", job_id=job.job_id, pid=child)
                os.kill(child, signal.SIGKILL)

    def _beat_on(self) -> None:
        while not self._over.is_set():
            self._guarded("beat", self.beat)
            self._over.wait(self._settings.heartbeat_seconds)

    def _tell(self, job_id: str, released: bool) -> None:
        if released:
            _logger.warning("child-lost", job_id=job_id)

    def _guarded(self, name: str, work: Callable[[], object]) -> None:
        """Do ledger work; while the ledger is away, leases run out and bring the job back."""
        try:
            work()
        except SQLAlchemyError as error:
            _logger.warning("outage", stage=name, error=type(error).__name__)
