"""A child process: set up after the fork, then one job after another.

`service.worker.attempt`, and with it every imaging library and model runtime, is imported here and never in the
parent: CUDA does not survive a fork, and the parent must stay small and alive.
"""

import time
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from service import broker, log
from service.config import settings
from service.errors import SystemBroken
from service.ledger import Ledger
from service.storage import Storage
from service.worker.memory import lift_limit, limit_growth

if TYPE_CHECKING:
    from service.worker.attempt import Desk

_logger = log.logger("child")
_desks: "list[Desk]" = []


def prepare(worker: str, threads: int) -> None:
    """Load everything and set the memory limit; the child counts as alive only after this."""
    from service.features.engine.warm import warm  # noqa: PLC0415 - see above
    from service.worker.attempt import Desk  # noqa: PLC0415 - see above
    from service.worker.progress import Progress  # noqa: PLC0415 - see above
    from service.worker.shelf import Shelf  # noqa: PLC0415 - see above

    began = time.monotonic()
    values = settings()
    client = broker.connect(values.broker_url)
    ledger, shelf = Ledger(values.ledger_url), Shelf(values, threads)
    desk = Desk(values, ledger, Storage(values.home), shelf, worker, client, Progress(ledger))
    _desks[:] = [desk]
    warm()
    try:
        device = desk.shelf.warm_up()
        if device is not None:
            desk.ledger.report_device(worker, device)
    except SystemBroken as error:
        _logger.exception("broken", problem=error.slug)
    except SQLAlchemyError as error:
        _logger.warning("outage", error=type(error).__name__)
    else:
        _logger.info("ready", device=device, threads=threads, seconds=round(time.monotonic() - began, 3))


def run(job_id: str) -> None:
    """Run one job under the memory limit."""
    from service.worker.attempt import run_attempt  # noqa: PLC0415 - see above

    (desk,) = _desks
    limit_growth(desk.settings.worker_memory_bytes)
    try:
        run_attempt(desk, job_id)
    finally:
        lift_limit()
