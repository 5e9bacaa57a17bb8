"""`Prefer: wait=N`: answer when the job is done, or after N seconds.

References:
    RFC 7240, section 4.3 (`wait`) and section 3 (`Preference-Applied`).
"""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from anyio import sleep, to_thread
from starlette.requests import Request

from service.job import Job
from service.ledger import Ledger

LONGEST_SECONDS = 60
# A look at the ledger costs about a millisecond, so that looking again after 1 % of the time already waited delays an
# answer by half a percent on average; the bounds keep short jobs prompt and long ones cheap.
SHARE_OF_WAITED = 0.01
SHORTEST_PAUSE = 0.005
LONGEST_PAUSE = 0.1
LOOKS_PER_SECOND = 400
_WAIT = re.compile(r"(?:^|[,;])\s*wait\s*=\s*\"?(\d{1,6})\"?\s*(?=$|[,;])", re.IGNORECASE)


def preferred_wait(prefer: str | None) -> int | None:
    """Return the seconds of a `Prefer: wait=N` header, at most 60; None without one."""
    found = _WAIT.search(prefer or "")
    return min(int(found[1]), LONGEST_SECONDS) if found else None


@dataclass
class Waiters:
    """How many requests wait: together they look at the ledger `LOOKS_PER_SECOND` times a second at most."""

    count: int = 0

    @contextmanager
    def one_more(self) -> Iterator[None]:
        """Count one request while it waits."""
        self.count += 1
        try:
            yield
        finally:
            self.count -= 1

    def pause(self, waited_seconds: float) -> float:
        """Return the seconds until the next look."""
        pause = min(max(waited_seconds * SHARE_OF_WAITED, SHORTEST_PAUSE), LONGEST_PAUSE)
        return max(pause, self.count / LOOKS_PER_SECOND)


async def wait_for_end(request: Request, ledger: Ledger, waiters: Waiters, job: Job, seconds: int) -> Job:
    """Return the job as soon as it is terminal, else as it is after `seconds` or once the client has gone."""
    started = time.monotonic()
    with waiters.one_more():
        while not job.state.terminal:
            waited = time.monotonic() - started
            if waited >= seconds or await request.is_disconnected():
                break
            await sleep(min(waiters.pause(waited), seconds - waited))
            job = await to_thread.run_sync(ledger.find_job, job.id, job.owner)
    return job
