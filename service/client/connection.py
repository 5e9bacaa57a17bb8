"""The connection to a service: submit, wait, fetch, remove."""

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

import httpx

from service.client.form import Images, Part, Submission, collect_files, collect_images
from service.client.result import FeatureVectorResult
from service.errors import Refused, ServiceUnreachable
from service.radiomics_settings import Axes

DEFAULT_URL: Final = "http://127.0.0.1:8080"
TERMINAL: Final = frozenset({"succeeded", "failed", "cancelled", "expired"})
TRANSIENT: Final = frozenset({500, 502, 503, 504})
RETRY_PAUSES: Final = (0.5, 1.0, 2.0, 4.0)
WAIT_SECONDS: Final = 30
SHARE_OF_WAITED: Final = 0.05
SHORTEST_PAUSE: Final = 0.02
LONGEST_PAUSE: Final = 0.5


class Client:
    """A connection to one service.

    Args:
        url: the service's address.
        key: the API key, where one is demanded.
        on_upload: receives bytes sent so far, and in all.
        on_status: receives the job's document whenever it changed, until it is terminal.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        key: str | None = None,
        *,
        on_upload: Callable[[int, int], None] | None = None,
        on_status: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        self._on_upload = on_upload or (lambda _sent, _total: None)
        self._on_status = on_status
        self._http = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(60, connect=5),
            trust_env=urlsplit(url).hostname not in ("localhost", "127.0.0.1", "::1"),  # no proxy to this machine
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def extract(
        self,
        image: Images,
        mask: Path | Sequence[Path],
        *,
        model: str | None = None,
        roi: str | None = None,
        radiomics: str | Path | None = None,
        case_id: str | None = None,
        resample_mask: bool = False,
        radiomics_axes: Axes = "canonical",
    ) -> FeatureVectorResult:
        """Send a case, wait for its end and return its result.

        Args:
            image: a file, a folder of DICOM files, several files, or any of these by channel.
            mask: the mask's file, or files.
            model: bundle, as `name` or `name@version`.
            roi: which region, where the mask holds several; `all` for each of them.
            radiomics: a preset's name, or the path of a PyRadiomics parameter file.
            case_id: your pseudonym for the case.
            resample_mask: take a mask on another grid, by nearest neighbour.
            radiomics_axes: "stored" computes radiomics along the file's own axes, as PyRadiomics on the file would.

        Raises:
            Refused: the request or the case was refused, or the job was cancelled.
            ServiceUnreachable: nothing answers, also after some tries.
        """
        submission = Submission(
            collect_images(image),
            collect_files(mask),
            model,
            roi,
            radiomics,
            case_id,
            resample_mask,
            radiomics_axes,
        )
        return FeatureVectorResult.model_validate(self.run(submission))

    def run(self, submission: Submission) -> dict[str, Any]:
        """Send a case, wait for its end and return the service's own document.

        Raises:
            Refused: as `extract`.
            ServiceUnreachable: as `extract`.
        """
        job = self.submit(submission)
        return self.wait(str(job["id"]))

    def submit(self, submission: Submission, idempotency_key: str | None = None) -> dict[str, Any]:
        """Send a case and return the accepted job's document."""
        headers = {"Idempotency-Key": idempotency_key or uuid.uuid4().hex}
        return self._json(lambda: self._post(submission, headers))

    def wait(self, job_id: str) -> dict[str, Any]:
        """Wait until a job ended well and return its document.

        Raises:
            Refused: it failed, was cancelled or has expired.
        """
        # Whoever wants to see the stages polls; otherwise the service holds the request until the end.
        began = time.monotonic()
        headers = {} if self._on_status else {"Prefer": f"wait={WAIT_SECONDS}"}
        document = self._get(f"/features/{job_id}", headers)
        while document["status"] not in TERMINAL:
            if self._on_status:
                self._on_status(document)
                time.sleep(min(max(SHARE_OF_WAITED * (time.monotonic() - began), SHORTEST_PAUSE), LONGEST_PAUSE))
            document = self._get(f"/features/{job_id}", headers)
        if document["status"] != "succeeded":
            problem = document.get("problem") or {"detail": f"the job is {document['status']}"}
            raise refusal(problem)
        return document

    def fetch(self, path: str, media_type: str) -> bytes:
        """Return a representation of a result: `/features/ID` as `text/csv`, or `/features/ID/preview.png`."""
        return self._send(lambda: self._http.get(path, headers={"Accept": media_type})).content

    def remove(self, job_id: str) -> None:
        """Cancel a job if it still runs and remove every trace of it."""
        self._send(lambda: self._http.delete(f"/features/{job_id}"))

    def models(self) -> list[dict[str, Any]]:
        """Return the documents of the installed models."""
        documents: list[dict[str, Any]] = self._send(lambda: self._http.get("/models")).json()
        return documents

    def check(self) -> None:
        """Make sure, without trying again, that something answers.

        Raises:
            ServiceUnreachable: nothing does.
        """
        try:
            self._http.get("/livez")
        except httpx.TransportError as error:
            raise _unreachable(self._http.base_url) from error

    def _post(self, submission: Submission, headers: Mapping[str, str]) -> httpx.Response:
        files = list(submission.files())
        total = sum(path.stat().st_size for _, path in files)
        sent = 0

        def count(size: int) -> None:
            nonlocal sent
            sent += size
            self._on_upload(sent, total)

        parts: list[tuple[str, tuple[str, Any]]] = [
            (field, (f"{field}-{number:04d}", Part(path, count))) for number, (field, path) in enumerate(files)
        ]
        return self._http.post("/features", data=submission.texts(), files=parts, headers=dict(headers))

    def _get(self, path: str, headers: Mapping[str, str]) -> dict[str, Any]:
        return self._json(lambda: self._http.get(path, headers={"Accept": "application/json", **headers}))

    def _json(self, request: Callable[[], httpx.Response]) -> dict[str, Any]:
        document: dict[str, Any] = self._send(request).json()
        return document

    def _send(self, request: Callable[[], httpx.Response]) -> httpx.Response:
        """Send a request, again after a pause where that can help.

        Raises:
            Refused: the service answered with a problem.
            ServiceUnreachable: nothing answered at any try.
        """
        for pause in (*RETRY_PAUSES, None):
            try:
                response = request()
            except httpx.TransportError as error:
                if pause is None:
                    raise _unreachable(self._http.base_url) from error
            else:
                if response.is_success:
                    return response
                if pause is None or response.status_code not in TRANSIENT:
                    raise refusal(_problem_of(response))
            time.sleep(pause)
        raise _unreachable(self._http.base_url)


def _problem_of(response: httpx.Response) -> dict[str, Any]:
    if response.headers.get("content-type", "").startswith("application/problem+json"):
        problem: dict[str, Any] = response.json()
        return problem
    return {"status": response.status_code, "detail": f"the service answered {response.status_code} without a reason"}


def refusal(problem: Mapping[str, Any]) -> Refused:
    """Return the exception for a problem document."""
    facts = {name: value for name, value in problem.items() if name != "detail"}
    return Refused(str(problem.get("detail") or problem.get("title") or "refused"), **facts)


def _unreachable(url: httpx.URL) -> ServiceUnreachable:
    return ServiceUnreachable(f"no Radfuse service answers at {url}")
