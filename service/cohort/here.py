"""`extract-cohort --local`: processes of this machine, each with the pipeline and its bundle, one case at a time.

Python starts them anew instead of forking: the encoder's runtime does not survive a fork.
"""

import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Final

from anyio import CapacityLimiter, to_thread

from service.client import Submission, refusal
from service.cohort.run import Compute, Document, Task
from service.config import Settings
from service.errors import CaseError, OutOfMemory, RadfuseError, RequestError, SystemBroken, WorkerLost

if TYPE_CHECKING:
    from service.local import LocalPipeline

THREAD_VARIABLES: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")
STOP_SECONDS: Final = 5.0


class Helper:
    """One process that computes a case at a time; it is started anew where a case brought it down."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stopped = False
        self._start()

    def compute(self, submission: Submission) -> Document:
        """Compute a case; blocks.

        Raises:
            Refused: the case cannot be used, or the process died of it.
            SystemBroken: the bundle or the device is at fault.
        """
        try:
            self._pipe.send(submission)
            answer = self._pipe.recv()
        except (EOFError, ConnectionError):
            self._process.join()
            status = self._process.exitcode
            if not self._stopped:
                self._start()
            raise refusal(WorkerLost(f"the process died under this case (exit status {status})").problem(0)) from None
        if isinstance(answer, RadfuseError):
            raise answer
        if "rois" in answer:
            document: Document = answer
            return document
        raise refusal(answer)

    def stop(self) -> None:
        """End the process, also in the middle of a case."""
        self._stopped = True
        self._process.kill()
        self._process.join(STOP_SECONDS)

    def _start(self) -> None:
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self._settings), daemon=True)
        # Ctrl-C reaches the whole group of processes, but is for the parent alone to handle.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()


@asynccontextmanager
async def open_helper(settings: Settings, limiter: CapacityLimiter) -> AsyncIterator[Compute]:
    """Start a process for as long as it is needed."""
    helper = Helper(settings)

    async def compute(task: Task) -> Document:
        work = partial(helper.compute, task.submission)
        return await to_thread.run_sync(work, abandon_on_cancel=True, limiter=limiter)

    try:
        yield compute
    finally:
        helper.stop()


def installed_models(settings: Settings) -> Mapping[str, str]:
    """Return the digests of the bundles of this machine, by `name@version`."""
    from service.api.catalogue import Catalogue  # noqa: PLC0415

    return {each.manifest.reference: each.sha256 for each in Catalogue(settings.models).read().values()}


def _serve(pipe: Connection, settings: Settings) -> None:
    """Compute what comes, until nobody is there to ask."""
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))  # before the libraries that read them
    from service.local import LocalPipeline  # noqa: PLC0415
    from service.worker.memory import forbid_core_dumps  # noqa: PLC0415

    forbid_core_dumps()
    pipeline = LocalPipeline(settings)
    while True:
        try:
            submission = pipe.recv()
        except EOFError:
            return
        pipe.send(_answer(pipeline, submission, settings))


def _answer(pipeline: "LocalPipeline", submission: Submission, settings: Settings) -> Document | RadfuseError:
    from service.worker.memory import lift_limit, limit_growth  # noqa: PLC0415

    limit = settings.worker_memory_bytes
    limit_growth(limit)
    problem: Document | RadfuseError
    try:
        return pipeline.extract(submission)
    except (CaseError, RequestError) as error:
        problem = error.problem(0)
    except SystemBroken as error:
        problem = error
    except MemoryError:
        problem = OutOfMemory(f"the case needs more than {limit} bytes", limit_bytes=limit).problem(0)
    finally:
        lift_limit()
    return problem
