"""`Prefer: wait=N`: answer when the job is done, or after N seconds.

References:
    RFC 7240, section 4.3 (`wait`) and section 3 (`Preference-Applied`).
"""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from anyio import sleep, to_thread
from starlette.requests import Request

from service.api.endings import Endings, Watch
from service.api.views import Document
from service.job import Job
from service.ledger import Ledger

LONGEST_SECONDS = 60
# Between two looks at the ledger, where news of the end comes by itself; and where it does not, because the broker is
# away: then 2 % of the time already waited, within bounds, and for all requests together `LOOKS_PER_SECOND`.
LOOK_SECONDS = 1.0
SHARE_OF_WAITED = 0.02
SHORTEST_PAUSE = 0.02
LOOKS_PER_SECOND = 50
# A picture that is not there so long after the result will not come.
PICTURE_TIME = timedelta(seconds=5)
PICTURE_PAUSE_SECONDS = 0.02
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


async def wait_for_end(
    request: Request, ledger: Ledger, waiters: Waiters, job_id: str, owner: str, *, seconds: int
) -> tuple[Job, Document | None]:
    """Return the job, with its result, as soon as it is terminal.

    Else the job as it is after `seconds`, or once the client has gone.

    Raises:
        NotFound: the owner has no such job.
    """
    started = time.monotonic()
    with waiters.one_more(job_id) as watch:
        # What ended before the watch began rang nobody's bell.
        job, result = await to_thread.run_sync(ledger.find_job_with_result, job_id, owner)
        while not job.state.terminal:
            waited = time.monotonic() - started
            if waited >= seconds or await request.is_disconnected():
                break
            await watch.wait(min(waiters.pause(waited), seconds - waited))
            job, result = await to_thread.run_sync(ledger.find_job_with_result, job_id, owner)
    return job, result


async def wait_for_picture(ledger: Ledger, job: Job) -> bytes | None:
    """Return the picture of a job that has succeeded; it is drawn right after the result is stored.

    None where none came within `PICTURE_TIME` of the end: it could not be drawn, or its worker was killed.
    """
    while (picture := await to_thread.run_sync(ledger.find_preview, job.id, job.owner)) is None:
        if job.finished_at is None or datetime.now(UTC) - job.finished_at > PICTURE_TIME:
            break
        await sleep(PICTURE_PAUSE_SECONDS)
    return picture
