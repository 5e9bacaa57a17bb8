"""`GET /features/{id}/events`: every change of a job, as it happens.

References:
    WHATWG HTML, section 9.2 (server-sent events): the format, `Last-Event-ID`, 204 to end reconnecting.
"""

import json
import time
from collections.abc import AsyncIterator
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Header, Response
from fastapi.responses import StreamingResponse
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from starlette.types import Receive, Scope, Send

from service.api import openapi
from service.api.auth import Reader
from service.api.changes import Followed, Sight
from service.api.context import Context, ContextOf
from service.api.endings import Watch
from service.api.negotiation import choose_media_type
from service.api.views import mark_of, view_job
from service.job import Job

MEDIA_TYPE = "text/event-stream"
HEARTBEAT_SECONDS = 15.0
# A client connects again after this, and shows its key again: a revoked one is found out.
LONGEST_SECONDS = 300.0
RECONNECT_MILLISECONDS = 1000
# Nginx would keep the events back until a buffer is full.
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
router = APIRouter(tags=["features"])


@router.get("/features/{job_id}/events", response_class=StreamingResponse, **openapi.EVENTS)
async def follow_case(
    context: ContextOf,
    caller: Reader,
    job_id: str,
    accept: Annotated[str | None, Header(include_in_schema=False)] = None,
    last_event_id: Annotated[
        str | None, Header(description="`id` of the last event seen; what has not changed since is not sent again.")
    ] = None,
) -> Response:
    """Follow a job by server-sent events until it has ended.

    The present state comes first, then every change: `update` while the job waits or runs, `end` when it has ended.
    The data is the job's JSON without its result. A comment comes every 15 seconds. A stream ends after 5 minutes at
    most; clients then connect again by themselves, with `Last-Event-ID`, and miss nothing. 204: the end was seen.
    """
    choose_media_type(accept, (MEDIA_TYPE,))
    job, position = await to_thread.run_sync(_look_up, context, job_id, caller.owner)
    if job.state.terminal and last_event_id == mark_of(job, position):
        return Response(status_code=204)
    context.changes.demand_room()
    return EventStream(context, job, position, last_event_id)


class EventStream(StreamingResponse):
    """The events of one job for one client; it counts as open from the beginning of the answer to its end."""

    def __init__(self, context: Context, job: Job, position: int | None, seen: str | None) -> None:
        super().__init__((), headers=HEADERS, media_type=MEDIA_TYPE)
        self._context = context
        self._job = job
        self._position = position
        self._seen = seen

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send events; a client that goes away cancels this."""
        job = self._job
        with self._context.changes.follow(job.id, job.owner, Sight(job, self._position)) as (followed, watch):
            self.body_iterator = self._tell(followed, watch)
            await super().__call__(scope, receive, send)

    async def _tell(self, followed: Followed, watch: Watch) -> AsyncIterator[bytes]:
        until = time.monotonic() + LONGEST_SECONDS
        yield format_sse_event(retry=RECONNECT_MILLISECONDS)
        while time.monotonic() < until and not self._context.changes.leaving:
            job, position = followed.sight.job, followed.sight.position
            if job is None:
                return
            mark = mark_of(job, position)
            if mark == self._seen:
                yield KEEPALIVE_COMMENT
            else:
                self._seen = mark
                yield await to_thread.run_sync(_write, self._context, job, position)
            if job.state.terminal:
                return
            await watch.wait(min(HEARTBEAT_SECONDS, max(0.0, until - time.monotonic())))


def _look_up(context: Context, job_id: str, owner: str) -> tuple[Job, int | None]:
    job = context.ledger.find_job(job_id, owner)
    return job, None if job.state.terminal else context.ledger.queue_position(job_id)


def _write(context: Context, job: Job, position: int | None) -> bytes:
    document = view_job(job, position, estimated_seconds=context.estimator.estimate(job, position))
    return format_sse_event(
        data_str=json.dumps(document, ensure_ascii=False, allow_nan=False),
        event="end" if job.state.terminal else "update",
        id=mark_of(job, position),
    )
