"""The same connection for asyncio and trio: nothing blocks the event loop, and no more is under way than was asked."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack, cast

import anyio
import httpx
from anyio import to_thread

from service.client import cohorts, conversation
from service.client.cohorts import CohortItems
from service.client.connection import DEFAULT_URL
from service.client.conversation import PATIENCE, TERMINAL, Answer, Call, Document, Patience, Pause, Talk
from service.client.events import Events
from service.client.form import Images, Masks, Options, Submission
from service.client.result import FeatureVectorResult
from service.errors import Refused

T = TypeVar("T")


class AsyncClient:
    """A connection to one service whose calls are awaited.

    Args:
        url: the service's address.
        key: the API key, where one is demanded.
        at_once: how many cases `extract` and `run` have under way, however many are started; others wait their turn.
        on_status: receives a job's document whenever it changed, until it is terminal.
        patience: when a request is tried again.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        key: str | None = None,
        *,
        at_once: int = 8,
        on_status: Callable[[Document], None] | None = None,
        patience: Patience = PATIENCE,
    ) -> None:
        self._turns = anyio.Semaphore(at_once)
        self._on_status = on_status
        self._patience = patience
        self._http = httpx.AsyncClient(**conversation.connection_options(url, key))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def extract(self, image: Images, mask: Masks, **options: Unpack[Options]) -> FeatureVectorResult:
        """Send a case, wait for its end and return its result.

        Args:
            image: a file, a folder of DICOM files, several files, or any of these by channel.
            mask: the mask's file, or files.
            options: model, roi, radiomics, case_id, resample_mask, radiomics_axes; see `Options`.

        Raises:
            Refused: the request or the case was refused, or the job was cancelled.
            ServiceUnreachable: nothing answers, also after some tries.
        """
        submission = await to_thread.run_sync(partial(Submission.of, image, mask, **options))
        return FeatureVectorResult.model_validate(await self.run(submission))

    async def run(self, submission: Submission) -> Document:
        """Send a case, wait for its end and return the service's own document.

        Raises:
            Refused: as `extract`.
            ServiceUnreachable: as `extract`.
        """
        async with self._turns:
            return await self.wait(str((await self.submit(submission))["id"]))

    async def submit(self, submission: Submission, idempotency_key: str | None = None) -> Document:
        """Send a case and return the accepted job's document."""
        return await self._hold(conversation.submit(submission, idempotency_key, self._patience))

    async def wait(self, job_id: str) -> Document:
        """Wait until a job ended well and return its document.

        Raises:
            Refused: it failed, was cancelled or has expired.
        """
        if self._on_status:
            # Refused: an older service, or as many streams as it allows are open. Then it is asked every now and then.
            with suppress(Refused):
                async for document in self.follow(job_id):
                    if document["status"] not in TERMINAL:
                        self._on_status(document)
        return await self._hold(conversation.wait(job_id, self._on_status, self._patience))

    async def follow(self, job_id: str) -> AsyncIterator[Document]:
        """Yield the job's document, without its result, as it is and at every change until it has ended.

        Raises:
            Refused: there is no such job, or too many are followed at once.
            ServiceUnreachable: nothing answers, also after some tries.
        """
        events = Events(job_id, self._patience)
        while not events.over:
            try:
                async with self._http.stream("GET", events.path, headers=events.headers) as response:
                    if not response.is_success:
                        await response.aread()
                    events.begin(response)
                    async for line in response.aiter_lines():
                        if (document := events.take(line)) is not None:
                            yield document
            except httpx.TransportError:
                await anyio.sleep(events.pause(self._http.base_url))

    async def fetch(self, path: str, media_type: str) -> bytes:
        """Return a representation of a result: `/features/ID` as `text/csv`, or `/features/ID/preview.png`."""
        return (await self._send(Call("GET", path, {"Accept": media_type}))).content

    async def delete(self, job_id: str) -> None:
        """Cancel a job if it still runs and remove every trace of it."""
        await self._send(Call("DELETE", f"/features/{job_id}"))

    async def models(self) -> list[dict[str, Any]]:
        """Return the documents of the installed models."""
        documents: list[dict[str, Any]] = (await self._send(Call("GET", "/models"))).json()
        return documents

    async def create_cohort(self, items: CohortItems, **options: Unpack[Options]) -> Document:
        """Announce many cases and return the cohort's document.

        Args:
            items: one per case, or a table in PyRadiomics' batch format.
            options: what holds for all of them; see `Options`.
        """
        return await self._hold(cohorts.create(items, Submission({}, (), **options), self._patience))

    async def cohort(self, cohort: str) -> Document:
        """Return a cohort's document: how many of its items stand where."""
        return await self._hold(cohorts.look(cohort, self._patience))

    async def cohorts(self) -> list[Document]:
        """Return the documents of the caller's cohorts, newest first."""
        return await self._hold(cohorts.list_all(self._patience))

    async def cohort_items(self, cohort: str, status: str | None = None) -> list[Document]:
        """Return the documents of a cohort's items, or of those of one status, such as `awaiting-files`."""
        return await self._hold(cohorts.items(cohort, status, self._patience))

    async def submit_item(self, cohort: str, number: int, image: Images, mask: Masks) -> Document:
        """Send the files of an item, counted from 1, and return its document; the same again give the same job."""
        files = await to_thread.run_sync(Submission.of, image, mask)
        return await self._hold(cohorts.submit_item(cohort, number, files, self._patience))

    async def save_cohort_results(self, cohort: str, path: Path) -> None:
        """Save the table of a cohort's results so far, as .csv or .parquet by the path's suffix."""
        await self._hold(cohorts.save_results(cohort, path, self._patience))

    async def cancel_cohort(self, cohort: str) -> Document:
        """Cancel what of a cohort has not ended, and return its document; results are kept."""
        return await self._hold(cohorts.cancel(cohort, self._patience))

    async def delete_cohort(self, cohort: str) -> None:
        """Cancel what of a cohort has not ended, and remove every trace of it."""
        await self._send(Call("DELETE", f"/cohorts/{cohort}"))

    async def check(self) -> None:
        """Make sure, without trying again, that something answers.

        Raises:
            ServiceUnreachable: nothing does.
        """
        answer = await self._take(Call("GET", "/livez"))
        if isinstance(answer, httpx.TransportError):
            raise conversation.unreachable(self._http.base_url) from answer

    async def _send(self, call: Call) -> httpx.Response:
        return await self._hold(conversation.send(call, self._patience))

    async def _hold(self, talk: Talk[T]) -> T:
        """Carry a conversation to its end."""
        answer: Answer = None
        while True:
            try:
                step = talk.send(answer)
            except StopIteration as end:
                outcome: T = end.value
                return outcome
            answer = await self._take(step)

    async def _take(self, step: Call | Pause) -> Answer:
        if isinstance(step, Pause):
            await anyio.sleep(step.seconds)
            return None
        request = await to_thread.run_sync(step.request, self._http)
        if step.form:
            request.stream = _ReadInThread(cast("httpx.SyncByteStream", request.stream))
        try:
            response = await self._http.send(request, stream=True)
            try:
                if step.into and response.is_success:
                    await _save(response, step.into)
                else:
                    await response.aread()
            finally:
                await response.aclose()
        except httpx.TransportError as error:
            return error
        return response


class _ReadInThread(httpx.AsyncByteStream):
    """A form whose files are read outside the event loop, for they may lie on slow disks."""

    def __init__(self, form: httpx.SyncByteStream) -> None:
        self._form = form

    async def __aiter__(self) -> AsyncIterator[bytes]:
        blocks: Iterator[bytes] = iter(self._form)
        while (block := await to_thread.run_sync(next, blocks, None)) is not None:
            yield block


async def _save(response: httpx.Response, path: Path) -> None:
    async with await anyio.open_file(path, "wb") as file:
        async for block in response.aiter_bytes():
            await file.write(block)
