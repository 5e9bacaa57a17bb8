"""Taking a cohort in: its manifest, and later the files of each item."""

import uuid
from dataclasses import replace
from functools import partial

from anyio import to_thread
from python_multipart.multipart import parse_options_header
from starlette.requests import Request

from service.api.cohort_manifest import CohortManifest, CohortOptions, case_id_of, item_form, read_csv, read_json
from service.api.context import Context
from service.api.intake import RETRY_SECONDS, check_key, open_staging
from service.api.pace import keep_pace
from service.api.submission import build_request
from service.api.uploads import Form, check_length, next_chunk, receive_form
from service.errors import (
    BodyTooLarge,
    IdempotencyConflict,
    InvalidField,
    NotFound,
    QueueFull,
    UnsupportedMedia,
)
from service.job import Job
from service.ledger import Cohort, CohortItem
from service.storage import Staging

CSV, JSON = "text/csv", "application/json"


async def take_manifest(
    request: Request, context: Context, owner: str, key: str | None, options: CohortOptions
) -> Cohort:
    """Receive `POST /cohorts` and return the recorded cohort, or the one that the same key and content made before.

    Raises:
        RequestError: refused; nothing was kept.
        ClientDisconnect: the client went away; nothing was kept either.
    """
    check_key(key)
    kind = _media_type(request)
    if kind == JSON and options.model_fields_set:
        raise InvalidField("with JSON the options belong in the body", field=sorted(options.model_fields_set)[0])
    body = await _read_body(request, context)
    return await to_thread.run_sync(partial(_record, context, kind, body, options, owner=owner, key=key))


async def take_item(
    request: Request, context: Context, owner: str, cohort_id: str, item: int
) -> tuple[Cohort, CohortItem]:
    """Receive the files of one item and return it with its job, or with the one that the same files made before.

    Raises:
        RequestError: refused; nothing of the upload is left.
        ClientDisconnect: the client went away; nothing is left either.
    """
    cohort, row = await to_thread.run_sync(partial(_find_room, request, context, owner, cohort_id, item))
    async with open_staging(context.storage) as staging:
        form = await receive_form(
            request,
            staging,
            storage=context.storage,
            settings=context.settings,
            channels=context.catalogue.channels(),
        )
        job = await to_thread.run_sync(partial(_accept, context, staging, form, cohort, row))
        return cohort, replace(row, job=job)


def _media_type(request: Request) -> str:
    kind = parse_options_header(request.headers.get("content-type"))[0].decode("latin-1")
    if kind not in (CSV, JSON):
        raise UnsupportedMedia(f"expected {CSV} or {JSON}")
    if request.headers.get("content-encoding", "identity") != "identity":
        raise UnsupportedMedia("the body must not be compressed (Content-Encoding)")
    return kind


async def _read_body(request: Request, context: Context) -> bytes:
    limit = context.settings.max_manifest_bytes
    body = bytearray()
    stream = keep_pace(request.stream(), context.settings)
    while chunk := await next_chunk(stream, context.settings.upload_idle_seconds):
        body += chunk
        if len(body) > limit:
            raise BodyTooLarge(f"the manifest is larger than {limit} bytes", max_bytes=limit)
    return bytes(body)


def _record(context: Context, kind: str, body: bytes, options: CohortOptions, *, owner: str, key: str | None) -> Cohort:
    models, most = context.catalogue.read(), context.settings.max_cohort_items
    manifest: CohortManifest = read_csv(body, options, models, most) if kind == CSV else read_json(body, models, most)
    cohort, _ = context.ledger.create_cohort(
        cohort_id=uuid.uuid4().hex,
        owner=owner,
        options=manifest.options,
        columns=manifest.columns,
        rows=manifest.rows,
        idempotency_key=key,
    )
    return cohort


def _find_room(request: Request, context: Context, owner: str, cohort_id: str, item: int) -> tuple[Cohort, CohortItem]:
    """Refuse before a byte of the body is read, where that is possible."""
    cohort, row = context.ledger.find_item(cohort_id, owner, item)
    check_length(request, context.storage, context.settings)
    limit = context.settings.max_queued
    if (waiting := context.ledger.count_unfinished(in_cohorts=True)) >= limit:
        raise QueueFull(
            f"{waiting} cases of cohorts are unfinished; at most {limit} may be",
            retry_after_seconds=RETRY_SECONDS,
            max_queued=limit,
        )
    return cohort, row


def _accept(context: Context, staging: Staging, form: Form, cohort: Cohort, row: CohortItem) -> Job:
    """Make the item's job durable: its files first, then its row. The dispatcher publishes it."""
    if form.texts or form.rois or form.parameters is not None:
        field = next(iter(form.texts), "roi" if form.rois else "radiomics")
        raise InvalidField(f"{field}: the options of an item are those of its cohort", field=field)
    whole = item_form(cohort.columns, row.cells, cohort.options, form.files)
    request = build_request(whole, context.catalogue.read())
    request = request.model_copy(update={"preview": bool(cohort.options["previews"])})
    job_id = uuid.uuid4().hex
    staging.commit(job_id)
    # As at `POST /features`: after any other failure the row may be there, so that the files must stay.
    try:
        job, replaced = context.ledger.create_item_job(
            cohort.id,
            row.item,
            job_id=job_id,
            owner=cohort.owner,
            request=request,
            case_id=case_id_of(cohort.columns, row.cells),
        )
    except (IdempotencyConflict, NotFound):
        context.storage.delete(job_id)
        raise
    if job.id != job_id:
        context.storage.delete(job_id)
        return job
    if replaced is not None:
        context.storage.delete(replaced)
    context.metrics.count_upload(sum(upload.bytes for upload in request.files))
    return job
