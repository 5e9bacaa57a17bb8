"""What is said to a service and how its answers are read, without any input or output of its own.

Every exchange is a generator: it yields a `Call` to be made or a `Pause` to be kept, receives what came of it, and
returns the outcome. `Client` and `AsyncClient` only carry them out, one blocking, the other not.
"""

import time
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar
from urllib.parse import urlsplit

import httpx

from service.client.form import Submission, form_parts
from service.errors import Refused, ServiceUnreachable

T = TypeVar("T")
Document: TypeAlias = dict[str, Any]

TERMINAL: Final = frozenset({"succeeded", "failed", "cancelled", "expired"})
TRANSIENT: Final = frozenset({500, 502, 503, 504})
NO_ROOM: Final = frozenset({429, 507})
FIRST_RETRY_SECONDS: Final = 0.5
LONGEST_RETRY_SECONDS: Final = 8.0
WAIT_SECONDS: Final = 30
SHARE_OF_WAITED: Final = 0.05
SHORTEST_PAUSE: Final = 0.02
LONGEST_PAUSE: Final = 0.5


@dataclass(frozen=True)
class Pause:
    """Nothing happens for so long."""

    seconds: float


@dataclass(frozen=True)
class Call:
    """One request; built anew for every try, for files are read as they are sent.

    Attributes:
        form: sent as a multipart form.
        json: sent as JSON.
        content: sent as it is.
        into: a file that a good answer's body is streamed into.
    """

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    form: Submission | None = None
    json: Any = None
    content: bytes | None = None
    into: Path | None = None

    def request(
        self, http: httpx.Client | httpx.AsyncClient, on_upload: Callable[[int, int], None] | None = None
    ) -> httpx.Request:
        """Return the request as httpx sends it."""
        texts, files = form_parts(self.form, on_upload) if self.form else (None, None)
        return http.build_request(
            self.method,
            self.path,
            params=dict(self.query) or None,
            headers=dict(self.headers),
            data=texts,
            files=files,
            json=self.json,
            content=self.content,
        )


Answer: TypeAlias = httpx.Response | httpx.TransportError | None
Talk: TypeAlias = Generator[Call | Pause, Answer, T]


@dataclass(frozen=True)
class Patience:
    """When a request is tried again.

    Attributes:
        seconds: how long, in all, is waited for a service that does not answer, or with a 5xx.
        for_room: also try again, without an end, while its queue (429) or its disk (507) is full.
    """

    seconds: float = 7.5
    for_room: bool = False

    def pauses(self) -> Iterator[float]:
        """Yield the pauses between the tries, in seconds."""
        left, pause = self.seconds, FIRST_RETRY_SECONDS
        while left > 0:
            yield min(pause, left)
            left -= pause
            pause = min(2 * pause, LONGEST_RETRY_SECONDS)


PATIENCE: Final = Patience()


def connection_options(url: str, key: str | None) -> dict[str, Any]:
    """Return how httpx is to connect: without a proxy to this machine."""
    return {
        "base_url": url,
        "headers": {"Authorization": f"Bearer {key}"} if key else {},
        "timeout": httpx.Timeout(60, connect=5),
        "limits": httpx.Limits(max_connections=None),
        "trust_env": urlsplit(url).hostname not in ("localhost", "127.0.0.1", "::1"),
    }


def send(call: Call, patience: Patience) -> Talk[httpx.Response]:
    """Send a request, again after a pause where that can help.

    Raises:
        Refused: the service answered with a problem.
        ServiceUnreachable: nothing answered at any try.
    """
    pauses = patience.pauses()
    while True:
        answer = yield call
        if isinstance(answer, httpx.Response) and answer.is_success:
            return answer
        pause = _pause_after(answer, pauses, patience)
        if pause is None:
            raise failure(answer)
        yield Pause(pause)


def fetch_json(call: Call, patience: Patience) -> Talk[Any]:
    """Send a request and return the JSON that comes back.

    Raises:
        Refused, ServiceUnreachable: as `send`.
    """
    return (yield from send(call, patience)).json()


def submit(submission: Submission, key: str | None, patience: Patience) -> Talk[Document]:
    """Send a case; every try of it carries the same `Idempotency-Key`."""
    headers = {"Idempotency-Key": key or uuid.uuid4().hex}
    document: Document = yield from fetch_json(Call("POST", "/features", headers, form=submission), patience)
    return document


def wait(job_id: str, on_status: Callable[[Document], None] | None, patience: Patience) -> Talk[Document]:
    """Wait until a job ended well and return its document.

    Raises:
        Refused: it failed, was cancelled or has expired.
    """
    # Whoever wants to see the stages, and is not told of them by events, polls; otherwise the service holds the
    # request until the end.
    began = time.monotonic()
    headers = {"Accept": "application/json"} | ({} if on_status else {"Prefer": f"wait={WAIT_SECONDS}"})
    look = Call("GET", f"/features/{job_id}", headers)
    document: Document = yield from fetch_json(look, patience)
    while document["status"] not in TERMINAL:
        if on_status:
            on_status(document)
            yield Pause(min(max(SHARE_OF_WAITED * (time.monotonic() - began), SHORTEST_PAUSE), LONGEST_PAUSE))
        document = yield from fetch_json(look, patience)
    if document["status"] != "succeeded":
        raise refusal(document.get("problem") or {"detail": f"the job is {document['status']}"})
    return document


def refusal(problem: Mapping[str, Any]) -> Refused:
    """Return the exception for a problem document."""
    facts = {name: value for name, value in problem.items() if name != "detail"}
    return Refused(str(problem.get("detail") or problem.get("title") or "refused"), **facts)


def unreachable(url: httpx.URL) -> ServiceUnreachable:
    """Return the exception for a service that does not answer."""
    return ServiceUnreachable(f"no Radfuse service answers at {url.scheme}://{url.netloc.decode()}")


def _pause_after(answer: Answer, pauses: Iterator[float], patience: Patience) -> float | None:
    """Return for how long to wait before the next try; None: it would not help, or patience is at its end."""
    if not isinstance(answer, httpx.Response):
        return next(pauses, None)
    if patience.for_room and answer.status_code in NO_ROOM:
        asked = answer.headers.get("Retry-After", "")
        return float(asked) if asked.isdecimal() else LONGEST_RETRY_SECONDS
    return next(pauses, None) if answer.status_code in TRANSIENT else None


def failure(answer: Answer) -> Refused | ServiceUnreachable:
    """Return the exception for what came instead of a good answer."""
    if isinstance(answer, httpx.Response):
        return refusal(_problem_of(answer))
    if answer is None:
        raise TypeError("a call was not carried out")
    silence = unreachable(answer.request.url)
    silence.__cause__ = answer
    return silence


def _problem_of(response: httpx.Response) -> Document:
    if response.headers.get("content-type", "").startswith("application/problem+json"):
        problem: Document = response.json()
        return problem
    return {"status": response.status_code, "detail": f"the service answered {response.status_code} without a reason"}
