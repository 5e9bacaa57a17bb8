"""The connection to a service: submit, wait, fetch, remove; every call blocks."""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar, Unpack

import httpx

from service.client import cohorts, conversation
from service.client.cohorts import CohortItems
from service.client.conversation import PATIENCE, TERMINAL, Answer, Call, Document, Patience, Pause, Talk
from service.client.events import Events
from service.client.form import Images, Masks, Options, Submission
from service.client.result import FeatureVectorResult
from service.errors import Refused

T = TypeVar("T")

DEFAULT_URL: Final = "http://127.0.0.1:8080"


class Client:
    """A connection to one service.

    Args:
        url: the service's address.
        key: the API key, where one is demanded.
        on_upload: receives bytes sent so far, and in all.
        on_status: receives the job's document whenever it changed, until it is terminal.
        patience: when a request is tried again.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        key: str | None = None,
        *,
        on_upload: Callable[[int, int], None] | None = None,
        on_status: Callable[[Document], None] | None = None,
        patience: Patience = PATIENCE,
    ) -> None:
        self._on_upload = on_upload
        self._on_status = on_status
        self._patience = patience
        self._http = httpx.Client(**conversation.connection_options(url, key))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def extract(self, image: Images, mask: Masks, **options: Unpack[Options]) -> FeatureVectorResult:
        """Send a case, wait for its end and return its result.

        Args:
            image: a file, a folder of DICOM files, several files, or any of these by channel.
            mask: the mask's file, or files.
            options: model, roi, radiomics, case_id, resample_mask, radiomics_axes; see `Options`.

        Raises:
            Refused: the request or the case was refused, or the job was cancelled.
            ServiceUnreachable: nothing answers, also after some tries.
        """
        return FeatureVectorResult.model_validate(self.run(Submission.of(image, mask, **options)))

    def run(self, submission: Submission) -> Document:
        """Send a case, wait for its end and return the service's own document.

        Raises:
            Refused: as `extract`.
            ServiceUnreachable: as `extract`.
        """
        return self.wait(str(self.submit(submission)["id"]))

    def submit(self, submission: Submission, idempotency_key: str | None = None) -> Document:
        """Send a case and return the accepted job's document."""
        return self._hold(conversation.submit(submission, idempotency_key, self._patience))

    def wait(self, job_id: str) -> Document:
        """Wait until a job ended well and return its document.

        Raises:
            Refused: it failed, was cancelled or has expired.
        """
        if self._on_status:
            # Refused: an older service, or as many streams as it allows are open. Then it is asked every now and then.
            with suppress(Refused):
                for document in self.follow(job_id):
                    if document["status"] not in TERMINAL:
                        self._on_status(document)
        return self._hold(conversation.wait(job_id, self._on_status, self._patience))

    def follow(self, job_id: str) -> Iterator[Document]:
        """Yield the job's document, without its result, as it is and at every change until it has ended.

        Raises:
            Refused: there is no such job, or too many are followed at once.
            ServiceUnreachable: nothing answers, also after some tries.
        """
        events = Events(job_id, self._patience)
        while not events.over:
            try:
                with self._http.stream("GET", events.path, headers=events.headers) as response:
                    if not response.is_success:
                        response.read()
                    events.begin(response)
                    for line in response.iter_lines():
                        if (document := events.take(line)) is not None:
                            yield document
            except httpx.TransportError:
                time.sleep(events.pause(self._http.base_url))

    def fetch(self, path: str, media_type: str) -> bytes:
        """Return a representation of a result: `/features/ID` as `text/csv`, or `/features/ID/preview.png`."""
        return self._send(Call("GET", path, {"Accept": media_type})).content

    def delete(self, job_id: str) -> None:
        """Cancel a job if it still runs and remove every trace of it."""
        self._send(Call("DELETE", f"/features/{job_id}"))

    def models(self) -> list[dict[str, Any]]:
        """Return the documents of the installed models."""
        documents: list[dict[str, Any]] = self._send(Call("GET", "/models")).json()
        return documents

    def create_cohort(self, items: CohortItems, **options: Unpack[Options]) -> Document:
        """Announce many cases and return the cohort's document.

        Args:
            items: one per case, or a table in PyRadiomics' batch format.
            options: what holds for all of them; see `Options`.
        """
        return self._hold(cohorts.create(items, Submission({}, (), **options), self._patience))

    def cohort(self, cohort: str) -> Document:
        """Return a cohort's document: how many of its items stand where."""
        return self._hold(cohorts.look(cohort, self._patience))

    def cohorts(self) -> list[Document]:
        """Return the documents of the caller's cohorts, newest first."""
        return self._hold(cohorts.list_all(self._patience))

    def cohort_items(self, cohort: str, status: str | None = None) -> list[Document]:
        """Return the documents of a cohort's items, or of those of one status, such as `awaiting-files`."""
        return self._hold(cohorts.items(cohort, status, self._patience))

    def submit_item(self, cohort: str, number: int, image: Images, mask: Masks) -> Document:
        """Send the files of an item, counted from 1, and return its document; the same again give the same job."""
        return self._hold(cohorts.submit_item(cohort, number, Submission.of(image, mask), self._patience))

    def save_cohort_results(self, cohort: str, path: Path) -> None:
        """Save the table of a cohort's results so far, as .csv or .parquet by the path's suffix."""
        self._hold(cohorts.save_results(cohort, path, self._patience))

    def cancel_cohort(self, cohort: str) -> Document:
        """Cancel what of a cohort has not ended, and return its document; results are kept."""
        return self._hold(cohorts.cancel(cohort, self._patience))

    def delete_cohort(self, cohort: str) -> None:
        """Cancel what of a cohort has not ended, and remove every trace of it."""
        self._send(Call("DELETE", f"/cohorts/{cohort}"))

    def check(self) -> None:
        """Make sure, without trying again, that something answers.

        Raises:
            ServiceUnreachable: nothing does.
        """
        answer = self._take(Call("GET", "/livez"))
        if isinstance(answer, httpx.TransportError):
            raise conversation.unreachable(self._http.base_url) from answer

    def _send(self, call: Call) -> httpx.Response:
        return self._hold(conversation.send(call, self._patience))

    def _hold(self, talk: Talk[T]) -> T:
        """Carry a conversation to its end."""
        answer: Answer = None
        while True:
            try:
                step = talk.send(answer)
            except StopIteration as end:
                outcome: T = end.value
                return outcome
            answer = self._take(step)

    def _take(self, step: Call | Pause) -> Answer:
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            return None
        try:
            response = self._http.send(step.request(self._http, self._on_upload), stream=True)
            try:
                if step.into and response.is_success:
                    _save(response, step.into)
                else:
                    response.read()
            finally:
                response.close()
        except httpx.TransportError as error:
            return error
        return response


def _save(response: httpx.Response, path: Path) -> None:
    with path.open("wb") as file:
        for block in response.iter_bytes():
            file.write(block)
