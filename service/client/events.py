"""The events of one job, taken from the lines of a stream, or of several where it is cut off.

References:
    WHATWG HTML, section 9.2.6 (interpreting an event stream).
"""

import json
from collections.abc import Iterator

import httpx

from service.client.conversation import Document, Patience, failure, unreachable

NO_CONTENT = 204


class Events:
    """What has come of one job so far.

    Args:
        job_id: the job.
        patience: for how long a service that does not answer is tried.
    """

    def __init__(self, job_id: str, patience: Patience) -> None:
        self.path = f"/features/{job_id}/events"
        self.over = False
        self._patience = patience
        self._pauses: Iterator[float] = patience.pauses()
        self._fields: dict[str, str] = {}
        self._seen: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        """What to ask with: what has been seen is not sent again."""
        accept = {"Accept": "text/event-stream"}
        return accept if self._seen is None else accept | {"Last-Event-ID": self._seen}

    def begin(self, response: httpx.Response) -> None:
        """Take the head of an answer, whose body has been read where it is no stream.

        Raises:
            Refused: the service answered with a problem.
        """
        if not response.is_success:
            raise failure(response)
        self.over = response.status_code == NO_CONTENT
        self._pauses = self._patience.pauses()
        self._fields = {}

    def take(self, line: str) -> Document | None:
        """Take a line; returns the job's document where an event is complete."""
        name, _, value = line.partition(":")
        if line:
            self._fields[name] = value.removeprefix(" ")
            return None
        fields, self._fields = self._fields, {}
        if "data" not in fields:
            return None
        self._seen = fields.get("id", self._seen)
        self.over = fields.get("event") == "end"
        document: Document = json.loads(fields["data"])
        return document

    def pause(self, url: httpx.URL) -> float:
        """Return the seconds until the next try, after a connection that failed or was cut off.

        Raises:
            ServiceUnreachable: patience is at its end.
        """
        pause = next(self._pauses, None)
        if pause is None:
            raise unreachable(url)
        return pause
