"""Start a worker: settings, threads, Celery, and an orderly end."""

import os
import sys
import threading
from collections.abc import Callable
from typing import Any

from billiard.exceptions import TimeLimitExceeded
from billiard.util import get_logger
from celery import Celery, bootsteps, signals
from celery.utils.sysinfo import cpu_budget
from celery.worker import state
from celery.worker.request import Request

from service import broker, log
from service.config import Settings, settings
from service.identity import own_name
from service.ledger import Ledger
from service.worker import child
from service.worker.keeper import Keeper
from service.worker.memory import forbid_core_dumps

# What stops a worker must wait longer than this before it kills.
GRACE_SECONDS = 20.0
READY_SECONDS = 120.0
REAP_SECONDS = 0.25
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)
_logger = log.logger("worker")


class KeptRequest(Request):  # type: ignore[misc]
    """A delivery, as the parent sees it: it tells the keeper when a child begins, ends or dies."""

    keeper: Keeper
    consumer: Callable[[], Any]
    acknowledged: bool

    def on_accepted(self, pid: int, time_accepted: float) -> None:
        """A child begins."""
        self.keeper.hold(pid, self.args[0])
        super().on_accepted(pid, time_accepted)

    def acknowledge(self) -> None:
        """A child has ended, in whatever way: soon, in the event loop, the broker is told."""
        if self.worker_pid is not None:
            self.keeper.drop(self.worker_pid)
        if not self.acknowledged:
            self.acknowledged = True
            self.consumer().call_soon(self._tell_broker)

    def _tell_broker(self) -> None:
        """Acknowledge the message.

        Raises an error of the connection, on which Celery connects anew. Its own way is to log it and go on; with
        its one message forever unacknowledged, the worker would then never take another one.
        """
        channel = self._message.channel
        if channel is None or channel.closed:
            return  # connected anew since: the broker will deliver it again, and there will be nothing to do
        try:
            self._message.ack()
        except self._connection_errors as error:
            _logger.warning("outage", stage="acknowledge", error=type(error).__name__)
            if state.should_stop is None:
                raise

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        """Something came up to the parent: the child died, or the ledger was away too long for it.

        So does a child that did not stop at the soft time limit and was killed at the hard one.
        """
        error = getattr(exc_info.exception, "exc", exc_info.exception)
        if isinstance(error, TimeLimitExceeded):
            self.keeper.fail_out_of_time(self.args[0])
        else:
            self.keeper.release(self.args[0])
        return super().on_failure(exc_info, send_failed_event, return_ok)


class Reaper(bootsteps.StartStopStep):  # type: ignore[misc]
    """Looks for dead children often.

    Celery hears of a death before the kernel lets it collect the child, misses it then and looks again only 5 s later.
    """

    requires = frozenset({"celery.worker.components:Pool"})
    timer: Any = None

    def register_with_event_loop(self, worker: Any, hub: Any) -> None:
        """Set the timer; called anew after every loss of the broker."""
        if self.timer is not None:
            self.timer.cancel()
        self.timer = hub.call_repeatedly(REAP_SECONDS, worker.pool.maintain_pool)


def threads_per_child(workers: int) -> int:
    """Share the processors that this process may use, by affinity and by the container's quota."""
    return max(1, int(cpu_budget().count) // workers)


def create_worker(values: Settings, keeper: Keeper, threads: int) -> Any:
    """Build the Celery worker around the one task."""
    application: Celery = broker.app()
    application.conf.worker_proc_alive_timeout = READY_SECONDS
    KeptRequest.keeper = keeper
    application.steps["worker"].add(Reaper)
    application.task(child.run, name=broker.TASK, Request=KeptRequest, typing=False)

    def set_up_log(**_: Any) -> None:
        get_logger()  # makes billiard's logger, which would print by itself
        log.configure(values.log_level, "worker")

    def set_up_child(**_: Any) -> None:
        log.configure(values.log_level, "worker-child")
        child.prepare(keeper.name, threads)

    def begin(**_: Any) -> None:
        keeper.start()
        _logger.info("started", worker=keeper.name, workers=values.workers, threads=threads)

    def wind_down(**_: Any) -> None:
        _logger.info("stopping", seconds=GRACE_SECONDS)
        timer = threading.Timer(GRACE_SECONDS, _give_up, [keeper])
        timer.daemon = True
        timer.start()

    for happens, handler in (
        (signals.setup_logging, set_up_log),
        (signals.worker_process_init, set_up_child),
        (signals.worker_init, begin),
        (signals.worker_shutting_down, wind_down),
    ):
        happens.connect(handler, weak=False)
    worker = application.Worker(
        pool="prefork",
        hostname=f"radfuse@{os.getpid()}",
        optimization="fair",
        quiet=True,
        # Workers need not know of each other: the ledger knows them.
        task_events=False,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
    )
    KeptRequest.consumer = staticmethod(lambda: worker.consumer)
    return worker


def _give_up(keeper: Keeper) -> None:
    """Leave although jobs still run: another worker takes them at once. The kernel ends the children."""
    keeper.release_all()
    keeper.stop()
    _logger.warning("stopped", state="unfinished")
    os._exit(0)


def main() -> None:
    """Run until TERM or INT."""
    values = settings()
    log.configure(values.log_level, "worker")
    forbid_core_dumps()
    threads = threads_per_child(values.workers)
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    # Not pooled: this process forks, and a database connection must not be shared with a child.
    ledger = Ledger(values.ledger_url, pooled=False)
    ledger.upgrade_when_reachable(threading.Event())
    keeper = Keeper(ledger, own_name(), values)
    worker = create_worker(values, keeper, threads)
    worker.start()
    keeper.release_all()
    keeper.stop()
    _logger.info("stopped", worker=keeper.name)
    sys.exit(worker.exitcode)


if __name__ == "__main__":
    main()
