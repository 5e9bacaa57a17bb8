"""`/cohorts`: many cases under one manifest, their files one by one, one table of what came of them."""

from typing import Annotated, Any
from urllib.parse import urlencode

from anyio import to_thread
from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from service.api import cohort_openapi
from service.api.auth import Reader, Submitter
from service.api.cohort_intake import take_item, take_manifest
from service.api.cohort_manifest import CohortOptions
from service.api.cohort_views import (
    AWAITING,
    CohortDocument,
    CohortPage,
    ItemDocument,
    ItemPage,
    ItemStatus,
    in_blocks,
    retry_after,
    table_columns,
    table_entries,
    view_cohort,
    view_item,
)
from service.api.context import Context, ContextOf
from service.api.negotiation import choose_media_type
from service.job import JobState
from service.ledger import Cohort
from service.removal import remove_doomed
from service.report.parquet import stream_parquet
from service.report.table import stream_csv

CSV, PARQUET = "text/csv", "application/vnd.apache.parquet"
router = APIRouter(tags=["cohorts"])


class CohortsQuery(BaseModel):
    """How to page through the list of cohorts."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(20, ge=1, le=100, description="Cohorts per page.")
    before: str | None = Field(None, max_length=200, description="`next` of the page before.")


class ItemsQuery(BaseModel):
    """How to page through a cohort's items."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(100, ge=1, le=1000, description="Items per page.")
    after: int = Field(0, ge=0, le=2**31 - 1, description="`next` of the page before.")
    status: ItemStatus | None = Field(None, description="Only items of this status; `awaiting-files` to resume.")


ItemNumber = Annotated[int, Path(ge=1, le=2**31 - 1, description="The item's row in the manifest, from 1.")]


@router.post("/cohorts", status_code=201, response_model=CohortDocument, **cohort_openapi.CREATE)
async def create_cohort(
    request: Request,
    context: ContextOf,
    caller: Submitter,
    options: Annotated[CohortOptions, Query()],
    idempotency_key: Annotated[
        str | None, Header(description="1 to 255 printable ASCII characters of your own; makes a repeat safe.")
    ] = None,
) -> Response:
    """Announce many cases: a manifest, CSV in PyRadiomics' batch format or JSON, and options for all of them.

    `Image` and `Mask` are your own names for files, which the service never opens: send the files of each item to
    `/cohorts/{id}/items/{item}`. All columns come back with the results. With CSV the options are query parameters.
    """
    cohort = await take_manifest(request, context, caller.owner, idempotency_key, options)
    answer = await to_thread.run_sync(_answer_cohort, context, cohort)
    answer.status_code = 201
    answer.headers["Location"] = f"/cohorts/{cohort.id}"
    return answer


@router.get("/cohorts", response_model=CohortPage, **cohort_openapi.LIST)
def list_cohorts(context: ContextOf, caller: Reader, query: Annotated[CohortsQuery, Query()]) -> Response:
    """List the cohorts of this key's owner, newest first."""
    found = context.ledger.list_cohorts(caller.owner, limit=query.limit + 1, before=query.before)
    shown = found[: query.limit]
    following = shown[-1].cursor if len(found) > query.limit else None
    page = {"items": [view_cohort(cohort, context.ledger) for cohort in shown], "next": following}
    return _answer_page("/cohorts", page, query, "before")


@router.get("/cohorts/{cohort_id}", response_model=CohortDocument, **cohort_openapi.FETCH)
def fetch_cohort(context: ContextOf, caller: Reader, cohort_id: str) -> Response:
    """Follow a cohort: how many of its items stand where."""
    return _answer_cohort(context, context.ledger.find_cohort(cohort_id, caller.owner))


@router.delete("/cohorts/{cohort_id}", status_code=204, response_class=Response, **cohort_openapi.REMOVE)
def remove_cohort(context: ContextOf, caller: Submitter, cohort_id: str) -> Response:
    """Cancel what has not ended, and remove every trace of the cohort: manifest, files, results, pictures."""
    context.ledger.doom_cohort(cohort_id, caller.owner)
    remove_doomed(context.ledger, context.storage, cohort_id)
    return Response(status_code=204)


@router.post("/cohorts/{cohort_id}/cancel", response_model=CohortDocument, **cohort_openapi.FETCH)
def cancel_cohort(context: ContextOf, caller: Submitter, cohort_id: str) -> Response:
    """Cancel what has not ended; results are kept.

    A cancelled item may be sent again.
    """
    for job_id in context.ledger.cancel_cohort(cohort_id, caller.owner):
        context.storage.delete(job_id)
    return _answer_cohort(context, context.ledger.find_cohort(cohort_id, caller.owner))


@router.get("/cohorts/{cohort_id}/items", response_model=ItemPage, **cohort_openapi.ITEMS)
def list_items(context: ContextOf, caller: Reader, cohort_id: str, query: Annotated[ItemsQuery, Query()]) -> Response:
    """List a cohort's items in the manifest's order."""
    cohort = context.ledger.find_cohort(cohort_id, caller.owner)
    awaiting = query.status == AWAITING
    states = None
    if query.status is not None and not awaiting:
        states = [state for state in JobState if state.public == query.status]
    # One more than asked for tells whether there is a next page.
    found = context.ledger.list_items(
        cohort_id, caller.owner, after=query.after, limit=query.limit + 1, states=states, awaiting=awaiting
    )
    shown = found[: query.limit]
    following = shown[-1].item if len(found) > query.limit else None
    page = {"items": [view_item(cohort, item) for item in shown], "next": following}
    return _answer_page(f"/cohorts/{cohort_id}/items", page, query, "after")


@router.get("/cohorts/{cohort_id}/items/{item}", response_model=ItemDocument, **cohort_openapi.ITEM)
def fetch_item(context: ContextOf, caller: Reader, cohort_id: str, item: ItemNumber) -> Response:
    """Fetch one item."""
    cohort, found = context.ledger.find_item(cohort_id, caller.owner, item)
    return JSONResponse(view_item(cohort, found))


@router.post("/cohorts/{cohort_id}/items/{item}", status_code=202, response_model=ItemDocument, **cohort_openapi.SEND)
async def send_item(
    request: Request, context: ContextOf, caller: Submitter, cohort_id: str, item: ItemNumber
) -> Response:
    """Send the files of one item, which makes its job.

    The same files again give the same job. Other files take the place of a job that has failed or was cancelled. What
    was sent by itself to `/features` overtakes the items of cohorts.
    """
    cohort, accepted = await take_item(request, context, caller.owner, cohort_id, item)
    document = view_item(cohort, accepted)
    return JSONResponse(document, status_code=202, headers={"Location": f"/features/{document['job']}"})


@router.get("/cohorts/{cohort_id}/results", response_class=StreamingResponse, **cohort_openapi.RESULTS)
def fetch_results(
    context: ContextOf,
    caller: Reader,
    cohort_id: str,
    accept: Annotated[str | None, Header(include_in_schema=False)] = None,
) -> Response:
    """Fetch one table of all items in the manifest's order, at any time.

    One row per region; an item without a result has a row whose `problem` says why. The manifest's columns are kept.
    """
    media_type = choose_media_type(accept, (CSV, PARQUET))
    cohort = context.ledger.find_cohort(cohort_id, caller.owner)
    suffix = "parquet" if media_type == PARQUET else "csv"
    headers = {"Content-Disposition": f'attachment; filename="cohort-{cohort.id}.{suffix}"', "Vary": "Accept"}
    kind = PARQUET if media_type == PARQUET else f"{CSV}; charset=utf-8; header=present"
    columns = table_columns(cohort, context.ledger)
    entries = table_entries(cohort, context.ledger, columns)
    table = stream_parquet(entries, columns) if media_type == PARQUET else in_blocks(stream_csv(entries, columns))
    return StreamingResponse(table, media_type=kind, headers=headers)


def _answer_cohort(context: Context, cohort: Cohort) -> Response:
    document = view_cohort(cohort, context.ledger)
    seconds = retry_after(document)
    return JSONResponse(document, headers={} if seconds is None else {"Retry-After": str(seconds)})


def _answer_page(path: str, page: dict[str, Any], query: BaseModel, cursor: str) -> Response:
    answer = JSONResponse(page)
    if page["next"] is not None:
        parameters = {**query.model_dump(exclude_none=True), cursor: page["next"]}
        answer.headers["Link"] = f'<{path}?{urlencode(parameters)}>; rel="next"'
    return answer
