"""`Prefer: wait=N`: answer when the job is done, or after N seconds.

References:
    RFC 7240, section 4.3 (`wait`) and section 3 (`Preference-Applied`).
"""

import re
import time

from anyio import sleep, to_thread
from starlette.requests import Request

from service.api.context import Context
from service.job import Job

LONGEST_SECONDS = 60
# A look at the ledger costs well under a millisecond, so that looking again after 2 % of the time already waited
# delays an answer by 1 % on average; the bounds keep short jobs prompt and long ones cheap.
SHARE_OF_WAITED = 0.02
SHORTEST_PAUSE = 0.005
LONGEST_PAUSE = 0.1
_WAIT = re.compile(r"(?:^|[,;])\s*wait\s*=\s*\"?(\d{1,6})\"?\s*(?=$|[,;])", re.IGNORECASE)


def preferred_wait(prefer: str | None) -> int | None:
    """Return the seconds of a `Prefer: wait=N` header, at most 60; None without one."""
    found = _WAIT.search(prefer or "")
    return min(int(found[1]), LONGEST_SECONDS) if found else None


async def wait_for_end(request: Request, context: Context, job: Job, seconds: int) -> Job:
    """Return the job as soon as it is terminal, else as it is after `seconds` or once the client has gone."""
    started = time.monotonic()
    while not job.state.terminal:
        waited = time.monotonic() - started
        if waited >= seconds or await request.is_disconnected():
            break
        pause = min(max(waited * SHARE_OF_WAITED, SHORTEST_PAUSE), LONGEST_PAUSE, seconds - waited)
        await sleep(pause)
        job = await to_thread.run_sync(context.ledger.find_job, job.id, job.owner)
    return job
