"""One attempt at a job, in a child process: claim, read, extract, store. Everything written is fenced by the claim."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import redis
from billiard.exceptions import SoftTimeLimitExceeded
from sqlalchemy.exc import OperationalError

from service import broker, log
from service.config import Settings
from service.errors import CaseError, OutOfMemory, OutOfTime, RadfuseError, SystemBroken
from service.imaging.case import Case
from service.imaging.guard import Limits
from service.imaging.reader import read_case
from service.job import JobRequest
from service.ledger import Claim, Ledger
from service.pipeline import Stage, extract
from service.radiomics_settings import EVERY_PRESET, AnySettings, RadiomicsSettings
from service.report.picture import draw_preview
from service.storage import Storage
from service.worker.gathering import gather_files
from service.worker.memory import lift_limit
from service.worker.progress import Progress
from service.worker.shelf import Shelf

LEDGER_PAUSES_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0)
BROKEN_DELAY_SECONDS = 5.0
OUT_OF_MEMORY_WORDS = (
    "bad_alloc",
    "bad allocation",
    "allocate memory",
    "unable to allocate",
    "out of memory",
    "start new thread",
)
_logger = log.logger("attempt")


@dataclass(frozen=True)
class Desk:
    """What a child works with."""

    settings: Settings
    ledger: Ledger
    storage: Storage
    shelf: Shelf
    worker: str
    broker: redis.Redis
    progress: Progress


def run_attempt(desk: Desk, job_id: str) -> None:
    """Run a job, if there is anything to do for it.

    It ends as succeeded, as failed (the case's fault, or no attempt left), or is given back to be tried again.
    """
    values = desk.settings
    claim = desk.ledger.claim(job_id, desk.worker, values.lease_seconds, values.max_attempts)
    if claim is None:
        _logger.info("nothing-to-do", job_id=job_id)
        return
    began = time.monotonic()
    _logger.info("started", job_id=job_id, attempt=claim.attempt)
    outcome = "abandoned"
    try:
        case, document = _work(desk, claim)
        if _insist(lambda: desk.ledger.finish(claim, document)):
            outcome = "succeeded"
            _announce(desk, job_id)
            if claim.job.request is not None and claim.job.request.preview:
                desk.ledger.add_preview(job_id, draw_preview(next(iter(case.images.values())), case.masks[0]))
    except Exception as error:  # noqa: BLE001 - the product's one: whatever a case does, its job has an end
        if outcome == "succeeded":
            _miss_picture(job_id, error)
        else:
            outcome = _end_badly(desk, claim, error)
    if outcome == "failed":
        _announce(desk, job_id)
    if outcome in ("succeeded", "failed") and not values.keep_inputs:
        desk.storage.delete(job_id)
    _logger.info(outcome, job_id=job_id, attempt=claim.attempt, seconds=round(time.monotonic() - began, 3))


def _announce(desk: Desk, job_id: str) -> None:
    """Tell waiting requests; without the broker they find out by themselves."""
    try:
        broker.announce_end(desk.broker, job_id)
    except broker.BrokerDown as error:
        _logger.warning("outage", stage="announce", error=type(error).__name__)


def _miss_picture(job_id: str, error: Exception) -> None:
    """Go on without a picture: the result stands, and its job has ended."""
    lift_limit()
    _logger.error("no-picture", job_id=job_id, exc_info=error)


def _work(desk: Desk, claim: Claim) -> tuple[Case, dict[str, Any]]:
    request = claim.job.request
    if request is None:
        raise SystemBroken("a running job has no request")
    bundle = desk.shelf.fetch(request.model)

    def report(stage: Stage) -> None:
        desk.progress.enter(claim, stage)

    began = time.perf_counter()
    values = desk.settings
    limits = Limits(decoded_bytes=values.max_decoded_bytes, voxels=values.max_voxels, files=values.max_files)
    case = read_case(
        gather_files(desk.storage, values, claim.job.id, request, limits),
        roi=request.roi,
        resample_mask=request.resample_mask,
        limits=limits,
        case_id=claim.job.case_id,
        reference=request.reference,
        suv=request.suv,
    )
    reading = round(time.perf_counter() - began, 6)
    with desk.progress.until_end():
        document = extract(case, bundle, _radiomics_settings(request), report, request.radiomics_axes).document()
    seconds = document["provenance"]["seconds"]
    document["provenance"]["seconds"] = {Stage.READING.value: reading, **seconds}
    return case, document


def _radiomics_settings(request: JobRequest) -> AnySettings | None:
    if request.parameters is not None:
        return RadiomicsSettings.model_validate(request.parameters)
    return None if request.preset is None else EVERY_PRESET[request.preset]


def _insist(write: Callable[[], bool]) -> bool:
    """Write to the ledger, through an outage of up to half a minute: the work is done and should not be lost."""
    for pause in LEDGER_PAUSES_SECONDS:
        try:
            return write()
        except OperationalError as error:
            _logger.warning("outage", delay_seconds=pause, error=type(error).__name__)
            time.sleep(pause)
    return write()


def _end_badly(desk: Desk, claim: Claim, error: Exception) -> str:
    """Fail the job, or give it back for another attempt; returns what was done."""
    lift_limit()
    problem = _judge(error, desk.settings)
    final = isinstance(problem, CaseError)
    if not final:
        _logger.error("broken", job_id=claim.job.id, attempt=claim.attempt, problem=problem.slug, exc_info=error)
    if final or claim.attempt >= desk.settings.max_attempts:
        document = problem.problem(422 if final else 500)
        failed = _insist(lambda: desk.ledger.fail(claim, document))
        _logger.info("refused", job_id=claim.job.id, problem=problem.slug)
        return "failed" if failed else "abandoned"
    delay = BROKEN_DELAY_SECONDS * 2 ** (claim.attempt - 1)
    released = _insist(lambda: desk.ledger.release(claim.job.id, claim.worker, delay))
    return "released" if released else "abandoned"


def _judge(error: Exception, values: Settings) -> RadfuseError:
    """Say whose fault it was. Libraries wrap what they catch, so that the causes count too."""
    causes = list(_causes(error))
    if any(isinstance(cause, SoftTimeLimitExceeded) for cause in causes):
        return OutOfTime(f"the case took longer than {values.job_seconds} s", limit_seconds=values.job_seconds)
    if any(_is_memory(cause) for cause in causes):
        limit = values.worker_memory_bytes
        return OutOfMemory(f"the case needs more than the {limit} bytes that a worker may use", limit_bytes=limit)
    if isinstance(error, RadfuseError):
        return error
    return SystemBroken("the service failed on this case in a way it does not know")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_memory(error: BaseException) -> bool:
    """Whether memory ran out: Python's own error, or the words in which C++ libraries pass theirs on."""
    if isinstance(error, RadfuseError):
        return False
    return isinstance(error, MemoryError) or any(words in str(error).lower() for words in OUT_OF_MEMORY_WORDS)
