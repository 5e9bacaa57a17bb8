"""`/features`: submit a case, follow it, fetch what came of it, remove it."""

from typing import Annotated, Any
from urllib.parse import urlencode

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from service.api import openapi
from service.api.auth import Reader, Submitter
from service.api.context import Context, ContextOf
from service.api.estimate import seconds_to_retry
from service.api.intake import take_in
from service.api.negotiation import choose_media_type
from service.api.representations import DICOM, Representation, list_representations
from service.api.schemas import JobDocument, JobPage, Status
from service.api.views import Document, etag_of, view_job
from service.api.waiting import preferred_wait, wait_for_end, wait_for_picture
from service.errors import NoResult, NotFound
from service.job import Job, JobState

JSON = "application/json"
_few_reports = CapacityLimiter(2)  # each is a process of its own, busy for a second or two
router = APIRouter(tags=["features"])

Prefer = Annotated[
    str | None,
    Header(
        description="`wait=N`: answer when the job has ended, or after N seconds (at most 60).", examples=["wait=30"]
    ),
]


class PageQuery(BaseModel):
    """How to page through the list."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(50, ge=1, le=200, description="Jobs per page.")
    before: str | None = Field(None, max_length=200, description="`next` of the page before.")
    status: Status | None = Field(None, description="Only jobs of this status.")


@router.post("/features", status_code=202, response_model=JobDocument, **openapi.SUBMIT)
async def submit_case(
    request: Request,
    context: ContextOf,
    caller: Submitter,
    idempotency_key: Annotated[
        str | None, Header(description="1 to 255 printable ASCII characters of your own; makes a repeat safe.")
    ] = None,
    prefer: Prefer = None,
) -> Response:
    """Submit one case: an image (or several channels) and a mask.

    A `202` is a promise: the job reaches exactly one terminal state, whatever is killed. The answer names the job in
    `Location`; ask there, or wait here with `Prefer: wait=N`.
    """
    job = await take_in(request, context, caller.owner, idempotency_key)
    wait, result = preferred_wait(prefer), None
    if wait is not None or job.state.terminal:
        job, result = await _follow(request, context, job.id, caller.owner, wait)
    answer = await to_thread.run_sync(_answer_json, context, job, result)
    answer.status_code = 200 if wait is not None and job.state.terminal else 202
    answer.headers["Location"] = f"/features/{job.id}"
    return _note_wait(answer, wait)


@router.get("/features", response_model=JobPage, **openapi.LIST)
def list_cases(context: ContextOf, caller: Reader, query: Annotated[PageQuery, Query()]) -> Response:
    """List the jobs of this key's owner, newest first, without results."""
    states = [state for state in JobState if state.public == query.status] if query.status else None
    # One more than asked for tells whether there is a next page.
    jobs = context.ledger.list_jobs(caller.owner, limit=query.limit + 1, before=query.before, states=states)
    shown = jobs[: query.limit]
    following = shown[-1].cursor if len(jobs) > query.limit else None
    answer = JSONResponse({"items": [view_job(job) for job in shown], "next": following})
    if following:
        parameters = {**query.model_dump(exclude_none=True), "before": following}
        answer.headers["Link"] = f'</features?{urlencode(parameters)}>; rel="next"'
    return answer


@router.get("/features/{job_id}", response_model=JobDocument, **openapi.FETCH)
async def fetch_case(
    request: Request,
    context: ContextOf,
    caller: Reader,
    job_id: str,
    accept: Annotated[str | None, Header(include_in_schema=False)] = None,
    if_none_match: Annotated[
        str | None, Header(description="An `ETag` seen before; 304 while nothing changed.")
    ] = None,
    prefer: Prefer = None,
) -> Response:
    """Follow a job, and fetch its result.

    As JSON at any time; once it has succeeded also as a table with one row per region, CSV or Parquet, and, where the
    case came as DICOM with a SEG or RTSTRUCT, as a structured report (Comprehensive 3D SR, TID 1500).
    """
    forms = list_representations(context.settings.report_python)
    media_type = choose_media_type(accept, (JSON, *forms))
    wait = preferred_wait(prefer)
    job, result = await _follow(request, context, job_id, caller.owner, wait)
    if media_type == JSON:
        return _note_wait(await to_thread.run_sync(_answer_json, context, job, result, if_none_match), wait)
    limiter = _few_reports if media_type == DICOM else None
    answer = await to_thread.run_sync(_answer_file, forms[media_type], job, result, if_none_match, limiter=limiter)
    return _note_wait(answer, wait)


@router.get("/features/{job_id}/preview.png", response_class=Response, **openapi.PREVIEW)
async def fetch_preview(context: ContextOf, caller: Reader, job_id: str) -> Response:
    """Fetch the picture of the image with the mask's outline, in three planes through the region.

    It is drawn right after the result is stored: asked for in that moment, this waits for it. No picture is no failure
    of the job: where it could not be drawn, or its worker was killed just then, there is none. Nor is there of an item
    of a cohort that did not ask for `previews`.
    """
    job = await to_thread.run_sync(context.ledger.find_job, job_id, caller.owner)
    _demand_success(job)
    wanted = job.request is not None and job.request.preview
    picture = await wait_for_picture(context.ledger, job) if wanted else None
    if picture is None:
        raise NotFound("no picture was made of this case")
    return Response(picture, media_type="image/png", headers={"Content-Disposition": "inline"})


@router.delete("/features/{job_id}", status_code=204, response_class=Response, **openapi.REMOVE)
def remove_case(context: ContextOf, caller: Submitter, job_id: str) -> Response:
    """Cancel a job that has not ended, and remove every trace of it: files, result, picture, pseudonym."""
    context.ledger.remove_job(job_id, caller.owner)
    context.storage.delete(job_id)
    return Response(status_code=204)


async def _follow(
    request: Request, context: Context, job_id: str, owner: str, wait: int | None
) -> tuple[Job, Document | None]:
    """Return the job, with its result if there is one: now, or as soon as it has ended if the caller waits."""
    if wait is None:
        return await to_thread.run_sync(context.ledger.find_job_with_result, job_id, owner)
    return await wait_for_end(request, context.ledger, context.waiters, job_id, owner, seconds=wait)


def _answer_json(context: Context, job: Job, result: Document | None, seen: str | None = None) -> Response:
    position = None if job.state.terminal else context.ledger.queue_position(job.id)
    estimate = context.estimator.estimate(job, position)
    headers = _headers(job, position, estimate)
    if _is_seen(seen, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return JSONResponse(view_job(job, position, result, estimated_seconds=estimate), headers=headers)


def _answer_file(form: Representation, job: Job, result: Document | None, seen: str | None) -> Response:
    _demand_success(job)
    headers = _headers(job, None)
    if _is_seen(seen, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    content = form.render((result or {}) | view_job(job, None, result))
    headers["Content-Disposition"] = f'attachment; filename="features-{job.id}.{form.suffix}"'
    return Response(content, media_type=form.content_type, headers=headers)


def _demand_success(job: Job) -> None:
    if job.state is JobState.SUCCEEDED:
        return
    facts: dict[str, Any] = {"job_status": job.state.public}
    if job.problem is not None:
        facts["job_problem"] = job.problem
    if not job.state.terminal:
        facts["retry_after_seconds"] = 1
    raise NoResult(f"the job is {job.state.public}; only a job that has succeeded has this", **facts)


def _headers(job: Job, position: int | None, estimate: float | None = None) -> dict[str, str]:
    headers = {"ETag": etag_of(job, position), "Cache-Control": "private, no-cache", "Vary": "Accept, Authorization"}
    if not job.state.terminal:
        headers["Retry-After"] = str(seconds_to_retry(estimate, position))
    return headers


def _is_seen(if_none_match: str | None, etag: str) -> bool:
    if if_none_match is None:
        return False
    seen = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
    return "*" in seen or etag.removeprefix("W/") in seen


def _note_wait(answer: Response, wait: int | None) -> Response:
    if wait is not None:
        answer.headers["Preference-Applied"] = f"wait={wait}"
    return answer
