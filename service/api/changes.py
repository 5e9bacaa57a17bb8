"""News of every change of the jobs that somebody follows: one look at the ledger serves all who do."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace

from anyio import sleep, to_thread
from sqlalchemy.exc import SQLAlchemyError

from service import log
from service.api.endings import Endings, Watch
from service.errors import NotFound, StreamsFull
from service.job import Job
from service.ledger import Ledger
from service.ledger.requests import WAITING

LOOK_SECONDS = 0.25
POSITION_SECONDS = 1.0  # places in the queue are costlier to count than versions to read
OUTAGE_SECONDS = 1.0
RETRY_SECONDS = 5
_logger = log.logger("api")


@dataclass(frozen=True)
class Sight:
    """A job as last seen; `position` is its place in the queue while it waits. None for a job: it was removed."""

    job: Job | None
    position: int | None

    @property
    def over(self) -> bool:
        """Whether nothing more will be seen."""
        return self.job is None or self.job.state.terminal


@dataclass
class Followed:
    """A job and those who follow it."""

    owner: str
    sight: Sight
    watches: list[Watch] = field(default_factory=list)


class Changes:
    """Every open stream of this process. For the event loop alone."""

    def __init__(self, ledger: Ledger, endings: Endings, max_streams: int) -> None:
        self._ledger = ledger
        self._endings = endings
        self._max_streams = max_streams
        self._followed: dict[str, Followed] = {}
        self._bell = Watch()
        self._positions_due = 0.0
        self._is_leaving: Callable[[], bool] = lambda: False
        self.streams = 0

    def leave_when(self, is_leaving: Callable[[], bool]) -> None:
        """Say how to learn that the process is about to end: then every stream does."""
        self._is_leaving = is_leaving

    @property
    def leaving(self) -> bool:
        """Whether streams must end."""
        return self._is_leaving()

    def demand_room(self) -> None:
        """Make sure that one more stream may be opened.

        Raises:
            StreamsFull: as many are open as may be.
        """
        if self.streams >= self._max_streams:
            raise StreamsFull(
                f"{self.streams} event streams are open; at most {self._max_streams} may be",
                retry_after_seconds=RETRY_SECONDS,
                max_streams=self._max_streams,
            )

    @contextmanager
    def follow(self, job_id: str, owner: str, sight: Sight) -> Iterator[tuple[Followed, Watch]]:
        """Follow a job, last seen as it is in `sight`, while the context lasts; the watch rings at every change."""
        watch = Watch()
        followed = self._followed.setdefault(job_id, Followed(owner, sight))
        followed.watches.append(watch)
        self.streams += 1
        with ExitStack() as stack:
            stack.callback(self._drop, job_id, watch)
            stack.enter_context(self._endings.watch(job_id, self._bell))
            self._bell.ring()
            yield followed, watch

    def _drop(self, job_id: str, watch: Watch) -> None:
        self.streams -= 1
        watches = self._followed[job_id].watches
        watches.remove(watch)
        if not watches:
            del self._followed[job_id]

    async def look_on(self) -> None:
        """Look for changes until cancelled, as long as anybody follows anything."""
        while True:
            if not self._followed:
                await self._bell.wait(None)
            try:
                await self._look()
            except SQLAlchemyError as error:
                _logger.warning("outage", stage="follow", error=type(error).__name__)
                await sleep(OUTAGE_SECONDS)
            await self._bell.wait(LOOK_SECONDS)

    async def _look(self) -> None:
        seen = {job_id: (each.owner, each.sight) for job_id, each in self._followed.items()}
        counting = time.monotonic() >= self._positions_due
        if counting:
            self._positions_due = time.monotonic() + POSITION_SECONDS
        found = await to_thread.run_sync(self._look_up, seen, counting)
        for job_id, followed in list(self._followed.items()):
            sight = found.get(job_id, followed.sight)
            if sight != followed.sight or self.leaving:
                followed.sight = sight
                for watch in followed.watches:
                    watch.ring()

    def _look_up(self, seen: dict[str, tuple[str, Sight]], counting: bool) -> dict[str, Sight]:
        """Return how the jobs stand now; where places are not counted, those of before are kept."""
        versions = self._ledger.find_versions(seen)
        found = {
            job_id: sight
            if sight.job is not None and versions.get(job_id) == sight.job.version
            else self._see(job_id, owner, sight)
            for job_id, (owner, sight) in seen.items()
        }
        waiting = [job_id for job_id, sight in found.items() if sight.job is not None and sight.job.state in WAITING]
        if not waiting or not counting:
            return found
        positions = self._ledger.queue_positions(waiting)
        return found | {job_id: replace(found[job_id], position=positions.get(job_id)) for job_id in waiting}

    def _see(self, job_id: str, owner: str, before: Sight) -> Sight:
        try:
            job = self._ledger.find_job(job_id, owner)
        except NotFound:
            return Sight(None, None)
        return Sight(job, before.position if job.state in WAITING else None)
