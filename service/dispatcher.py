"""The dispatcher: tells the broker of accepted jobs, callers of ended ones; finds lost work again, removes old.

It keeps no state: everything is in the ledger. It may be killed at any moment, and several may run at once.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

from sqlalchemy.exc import SQLAlchemyError

from service import broker, log
from service.config import Settings, settings
from service.identity import is_dead, own_name
from service.ledger import Ledger
from service.removal import remove_doomed
from service.storage import Storage
from service.webhooks import Postman

POLL_SECONDS = 0.04
BATCH = 100
COHORT_WINDOW = 32  # items of cohorts that the broker holds at once
BROKER_CHECK_SECONDS = 1.0
SWEEP_SECONDS = 60.0
ORPHAN_SECONDS = 3600.0
SHORTEST_PAUSE_SECONDS = 0.25
LONGEST_PAUSE_SECONDS = 2.0
STOP_SECONDS = 5.0
_logger = log.logger("dispatcher")


@dataclass
class Chore:
    """Something done every `seconds`; after an outage it is tried again with growing pauses."""

    name: str
    work: Callable[[], object]
    seconds: float
    due: float = 0.0
    failures: int = field(default=0)

    def attempt(self, now: float) -> None:
        """Do the work if it is due. An outage of the database, the broker or the disk is logged, not raised."""
        if now < self.due:
            return
        try:
            self.work()
        except (SQLAlchemyError, *broker.BrokerDown) as error:
            self.failures += 1
            pause = min(LONGEST_PAUSE_SECONDS, SHORTEST_PAUSE_SECONDS * 2 ** (self.failures - 1))
            self.due = now + max(pause, self.seconds)
            _logger.warning("outage", stage=self.name, error=type(error).__name__, attempt=self.failures)
        else:
            self.due = now + self.seconds
            if self.failures:
                _logger.info("recovered", stage=self.name, attempt=self.failures)
            self.failures = 0


class Dispatcher:
    """The chores of one process."""

    def __init__(self, values: Settings) -> None:
        self._settings = values
        self._ledger = Ledger(values.ledger_url)
        self._storage = Storage(values.home)
        self._redis = broker.connect(values.broker_url)
        self._queue = broker.create_app(values)
        self._name = own_name()
        self._chores = [
            Chore("beat", lambda: self._ledger.beat(self._name, "dispatcher"), values.heartbeat_seconds),
            Chore("broker", self._check_broker, BROKER_CHECK_SECONDS),
            Chore("reconcile", self._reconcile, values.reconcile_seconds),
            Chore("publish", self._publish, 0.0),
            Chore("sweep", self._sweep, SWEEP_SECONDS),
        ]

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set."""
        if not self._ledger.upgrade_when_reachable(stop):
            return
        _logger.info("started", worker=self._name)
        with self._delivering(stop):
            self._work_on(stop)
        Chore("leave", lambda: self._ledger.leave(self._name), 0.0).attempt(time.monotonic())
        _logger.info("stopped", worker=self._name)

    @contextmanager
    def _delivering(self, stop: threading.Event) -> Iterator[None]:
        """Deliver webhooks in a thread, so that no receiver holds up anything else; leave when it has stopped."""
        if not self._settings.webhook_targets:
            yield
            return
        postman = threading.Thread(
            target=Postman(self._settings, self._ledger).run, args=[stop], name="webhooks", daemon=True
        )
        postman.start()
        try:
            yield
        finally:
            stop.set()
            postman.join(STOP_SECONDS)

    def _work_on(self, stop: threading.Event) -> None:
        while not stop.is_set():
            for chore in self._chores:
                chore.attempt(time.monotonic())
            stop.wait(POLL_SECONDS)

    def _publish(self) -> None:
        """Publish what has been accepted; of cohorts only as much as keeps the workers busy."""
        while ids := self._ledger.take_accepted(BATCH):
            self._send(ids)
        self._send(self._ledger.take_items(COHORT_WINDOW), patient=True)

    def _send(self, ids: list[str], *, patient: bool = False) -> None:
        """Publish jobs; each is marked only once the broker has it."""
        count = 0
        try:
            for job_id in ids:
                broker.publish(self._queue, job_id, patient=patient)
                count += 1
        finally:
            if count:
                self._ledger.mark_queued(ids[:count])
            if count < len(ids):
                self._ledger.put_back(ids[count:])

    def _check_broker(self) -> None:
        """Send everything again when Redis was flushed or restarted: only the ledger knows what was in it."""
        if broker.has_forgotten(self._redis):
            count = self._ledger.requeue()
            broker.remember(self._redis)
            _logger.info("broker-forgot", count=count)

    def _reconcile(self) -> None:
        """Take back the jobs of dead workers, of workers not heard of, and of messages that got lost."""
        for worker in filter(is_dead, self._ledger.list_holders()):
            count = self._ledger.release_worker(worker)
            _logger.warning("worker-dead", worker=worker, count=count)
        values = self._settings
        found = self._ledger.reconcile(
            requeue_seconds=values.requeue_seconds,
            max_attempts=values.max_attempts,
            retention_seconds=values.retention_seconds,
        )
        for job_id in found.delete:
            self._storage.delete(job_id)
        # Also what an interrupted `DELETE` has left.
        remove_doomed(self._ledger, self._storage)
        if found.counts:
            _logger.info("reconciled", counts=found.counts)

    def _sweep(self) -> None:
        """Remove files without a job, of ended jobs, and of uploads that were cut off."""
        folders = self._storage.list_jobs()
        old = set(self._storage.list_jobs(ORPHAN_SECONDS))
        count = self._storage.sweep_incoming(ORPHAN_SECONDS)
        for start in range(0, len(folders), BATCH):
            some = folders[start : start + BATCH]
            needed = self._ledger.need_files(some, keep_inputs=self._settings.keep_inputs)
            # A young folder without a job is one whose row is just being committed.
            known = self._ledger.know(some)
            idle = [job_id for job_id in some if job_id not in needed and (job_id in known or job_id in old)]
            for job_id in idle:
                self._storage.delete(job_id)
            count += len(idle)
        if count:
            _logger.info("swept", count=count)


def main() -> None:
    """Run until TERM or INT."""
    values = settings()
    log.configure(values.log_level, "dispatcher")
    stop = threading.Event()

    def end(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    Dispatcher(values).run(stop)


if __name__ == "__main__":
    main()
