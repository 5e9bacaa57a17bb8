"""How far a job has come, told to the ledger beside the work and not in its way."""

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import SQLAlchemyError

from service import log
from service.ledger import Claim, Ledger
from service.pipeline import Stage

# A stage that is over sooner is not told: nobody could have seen it, and a small case would spend more time on
# telling than on the work.
PATIENCE_SECONDS = 0.1
_logger = log.logger("progress")


class Progress:
    """Tells the ledger the stage of the job in hand, from a thread that lives as long as the process.

    It is no reason to stop a job where the ledger is away, or memory is short, for a moment.
    """

    def __init__(self, ledger: Ledger, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._ledger = ledger
        self._patience_seconds = patience_seconds
        self._news: queue.SimpleQueue[tuple[Claim, Stage] | None] = queue.SimpleQueue()
        threading.Thread(target=self._tell_on, name="progress", daemon=True).start()

    def enter(self, claim: Claim, stage: Stage) -> None:
        """Note that the claim's job begins a stage."""
        self._news.put((claim, stage))

    @contextmanager
    def until_end(self) -> Iterator[None]:
        """Have nothing told any more of the job that the block works on once it is left."""
        try:
            yield
        finally:
            self._news.put(None)

    def _tell_on(self) -> None:
        pending = self._news.get()
        while True:
            try:
                pending = self._news.get(timeout=None if pending is None else self._patience_seconds)
            except queue.Empty:
                if pending is not None:
                    self._tell(*pending)
                pending = None

    def _tell(self, claim: Claim, stage: Stage) -> None:
        try:
            self._ledger.report_stage(claim, stage.value)
        except (SQLAlchemyError, MemoryError) as error:
            _logger.warning("outage", stage=stage.value, error=type(error).__name__)
