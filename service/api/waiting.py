"""`Prefer: wait=N`: answer when the job is done, or after N seconds.

References:
    RFC 7240, section 4.3 (`wait`) and section 3 (`Preference-Applied`).
"""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

from anyio import to_thread
from starlette.requests import Request

from service.api.endings import Endings, Watch
from service.job import Job
from service.ledger import Ledger

LONGEST_SECONDS = 60
# Between two looks at the ledger, where news of the end comes by itself; and where it does not, because the broker is
# away: then 2 % of the time already waited, within bounds, and for all requests together `LOOKS_PER_SECOND`.
LOOK_SECONDS = 1.0
SHARE_OF_WAITED = 0.02
SHORTEST_PAUSE = 0.02
LOOKS_PER_SECOND = 50
_WAIT = re.compile(r"(?:^|[,;])\s*wait\s*=\s*\"?(\d{1,6})\"?\s*(?=$|[,;])", re.IGNORECASE)


def preferred_wait(prefer: str | None) -> int | None:
    """Return the seconds of a `Prefer: wait=N` header, at most 60; None without one."""
    found = _WAIT.search(prefer or "")
    return min(int(found[1]), LONGEST_SECONDS) if found else None


class Waiters:
    """The requests that wait, and how often they look at the ledger."""

    def __init__(self, endings: Endings) -> None:
        self.endings = endings
        self._count = 0

    @contextmanager
    def one_more(self, job_id: str) -> Iterator[Watch]:
        """Count one request, and watch its job, while it waits."""
        self._count += 1
        try:
            with self.endings.watch(job_id) as watch:
                yield watch
        finally:
            self._count -= 1

    def pause(self, waited_seconds: float) -> float:
        """Return the seconds until the next look."""
        if self.endings.listening:
            return LOOK_SECONDS
        pause = min(max(waited_seconds * SHARE_OF_WAITED, SHORTEST_PAUSE), LOOK_SECONDS)
        return max(pause, self._count / LOOKS_PER_SECOND)


async def wait_for_end(request: Request, ledger: Ledger, waiters: Waiters, job: Job, seconds: int) -> Job:
    """Return the job as soon as it is terminal, else as it is after `seconds` or once the client has gone."""
    started = time.monotonic()
    with waiters.one_more(job.id) as watch:
        # What ended before the watch began rang nobody's bell.
        job = await to_thread.run_sync(ledger.find_job, job.id, job.owner)
        while not job.state.terminal:
            waited = time.monotonic() - started
            if waited >= seconds or await request.is_disconnected():
                break
            await watch.wait(min(waiters.pause(waited), seconds - waited))
            job = await to_thread.run_sync(ledger.find_job, job.id, job.owner)
    return job
