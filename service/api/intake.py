"""Taking a case in: refuse early, stream to storage, commit the files, commit the job. Only then is it accepted."""

import re
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from anyio import CancelScope, to_thread
from starlette.requests import Request

from service import broker, log
from service.api.context import Context
from service.api.related import RelatedReader, read_options
from service.api.sources import read_remote
from service.api.submission import build_request, check_text
from service.api.uploads import Form, check_length, receive_form
from service.errors import IdempotencyConflict, InvalidField, QueueFull
from service.job import Job
from service.storage import Staging, Storage
from service.webhook_target import find_target

RETRY_SECONDS = 30
PUBLISH_SECONDS = 3.0  # then the dispatcher thinks that nobody will
_logger = log.logger("api")
_KEY = re.compile(r"[\x20-\x7e]{1,255}")


async def take_in(request: Request, context: Context, owner: str, key: str | None) -> Job:
    """Receive `POST /features` and return the accepted job.

    With an `Idempotency-Key` that was used before for the same content, that earlier job.

    Raises:
        RequestError: refused; nothing of the upload is left.
        ClientDisconnect: the client went away; nothing is left either.
    """
    check_key(key)
    options = read_options(request)
    channels = await to_thread.run_sync(_check_queue, request, context)
    async with open_staging(context.storage) as staging:
        form = await receive_form(
            request,
            staging,
            storage=context.storage,
            settings=context.settings,
            channels=channels,
            related=RelatedReader,
        )
        form.texts |= options.texts
        form.rois += options.rois
        return await to_thread.run_sync(partial(_accept, context, staging, form, owner=owner, key=key))


@asynccontextmanager
async def open_staging(storage: Storage) -> AsyncIterator[Staging]:
    """Enter and leave a staging folder in a thread; it is removed unless it was committed, whatever happens."""
    staging = await to_thread.run_sync(storage.stage)
    try:
        yield staging
    finally:
        with CancelScope(shield=True):
            await to_thread.run_sync(staging.close)


def _check_queue(request: Request, context: Context) -> frozenset[str]:
    """Refuse before a byte of the body is read, where that is possible; return the channels models know."""
    check_length(request, context.storage, context.settings)
    limit = context.settings.max_queued
    if (waiting := context.ledger.count_unfinished()) >= limit:
        raise QueueFull(
            f"{waiting} jobs are unfinished; at most {limit} may be",
            retry_after_seconds=RETRY_SECONDS,
            max_queued=limit,
        )
    return context.catalogue.channels()


def _accept(context: Context, staging: Staging, form: Form, *, owner: str, key: str | None) -> Job:
    """Make the job durable: its files first, then its row."""
    case_id = check_text("case_id", form.texts.get("case_id"))
    targets = context.settings.webhook_targets
    remote = read_remote(form.texts, context.settings.dicomweb_servers)
    request = build_request(form, context.catalogue.read(), targets, remote)
    target = None if request.webhook is None else find_target(request.webhook, targets)
    job_id = uuid.uuid4().hex
    staging.commit(job_id)
    # If the row's commit fails for any other reason than these two, the files stay: the commit may have happened.
    # The dispatcher sweeps files without a job.
    try:
        job, created = context.ledger.create_job(
            job_id=job_id,
            owner=owner,
            request=request,
            case_id=case_id,
            idempotency_key=key,
            taken_seconds=PUBLISH_SECONDS,
            webhook_target=None if target is None else str(target),
        )
    except IdempotencyConflict:
        context.storage.delete(job_id)
        raise
    if not created:
        context.storage.delete(job_id)
        return job
    context.metrics.count_upload(sum(upload.bytes for upload in request.files))
    _publish(context, job_id)
    return job


def _publish(context: Context, job_id: str) -> None:
    """Tell the broker at once; where that fails the dispatcher does it, as it does if this process dies here."""
    try:
        broker.publish(context.queue, job_id)
    except broker.BrokerDown as error:
        _logger.warning("outage", stage="publish", error=type(error).__name__, job_id=job_id)
        context.ledger.put_back([job_id])
    else:
        context.sent.add(job_id)


def check_key(key: str | None) -> None:
    """Check an `Idempotency-Key`.

    Raises:
        InvalidField: not 1 to 255 printable ASCII characters.
    """
    if key is not None and not _KEY.fullmatch(key):
        raise InvalidField("Idempotency-Key: expected 1 to 255 printable ASCII characters", field="Idempotency-Key")
