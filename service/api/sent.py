"""What the broker has been told of, noted in the ledger a moment later and many at once.

Whoever waits for a job does not wait for this, and a job that a worker has claimed meanwhile needs no note. Notes that
are lost - this process dies, the ledger is away - cost a second message, which finds nothing to do: the dispatcher
publishes what nobody has marked.
"""

from collections.abc import Collection

from anyio import CancelScope, sleep, to_thread
from sqlalchemy.exc import SQLAlchemyError

from service import log
from service.ledger import Ledger

# Short: a job not yet marked is overlooked when everything marked is sent again to a broker that has forgotten it.
PAUSE_SECONDS = 0.05
_logger = log.logger("api")


class Sent:
    """The jobs published and not yet marked. Safe to add to from any thread."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._ids: list[str] = []

    def add(self, job_id: str) -> None:
        """Note that the broker has the job."""
        self._ids.append(job_id)

    async def mark_on(self) -> None:
        """Mark until cancelled, and then the last ones."""
        try:
            while True:
                await sleep(PAUSE_SECONDS)
                await self._mark()
        finally:
            with CancelScope(shield=True):
                await self._mark()

    async def _mark(self) -> None:
        count = len(self._ids)
        if count:
            ids, self._ids[:count] = self._ids[:count], []
            await to_thread.run_sync(self._mark_some, ids)

    def _mark_some(self, ids: Collection[str]) -> None:
        try:
            self._ledger.mark_queued(ids)
        except SQLAlchemyError as error:
            _logger.warning("outage", stage="mark", error=type(error).__name__)
