import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from service.client import Client, Submission, collect_files
from service.client.form import Part
from service.errors import Refused, ServiceUnreachable

PROBLEM = {"type": "/problems/queue-full", "title": "The queue is full", "status": 429, "detail": "10 jobs wait"}


class Door(ThreadingHTTPServer):
    """Answers POST /features with the given statuses, one after another, and keeps what was sent."""

    def __init__(self, statuses: list[int]) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.statuses = statuses
        self.requests: list[tuple[EmailMessage, bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answer(BaseHTTPRequestHandler):
    server: Door

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append((self.headers, body))
        status = self.server.statuses.pop(0)
        document = {"id": "1", "status": "queued"} if status == 202 else PROBLEM
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json" if status == 202 else "application/problem+json")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Retry-After", "0")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        return


@contextmanager
def _serve(*statuses: int) -> Iterator[Door]:
    with Door(list(statuses)) as door:
        thread = threading.Thread(target=door.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield door
        door.shutdown()
        thread.join()


@pytest.fixture
def submission(tmp_path: Path) -> Submission:
    (tmp_path / "DOE^JANE image.nii").write_bytes(b"i" * 70_000)
    (tmp_path / "DOE^JANE mask.nii").write_bytes(b"m" * 10)
    return Submission({"": [tmp_path / "DOE^JANE image.nii"]}, [tmp_path / "DOE^JANE mask.nii"], roi="1")


def _fields(headers: EmailMessage, body: bytes) -> dict[str, bytes]:
    head = f"Content-Type: {headers['Content-Type']}\r\n\r\n".encode()
    parts = BytesParser(policy=HTTP).parsebytes(head + body).iter_parts()
    return {str(part.get_param("name", header="content-disposition")): part.get_payload(decode=True) for part in parts}


def test_files_are_sent_whole_and_without_their_names(submission: Submission) -> None:
    sent: list[tuple[int, int]] = []
    with _serve(202) as door, Client(door.url, on_upload=lambda *figures: sent.append(figures)) as client:
        assert client.submit(submission)["id"] == "1"
    ((headers, body),) = door.requests
    assert _fields(headers, body) == {"roi": b"1", "image": b"i" * 70_000, "mask": b"m" * 10}
    assert b"DOE" not in body
    assert sent[-1] == (70_010, 70_010)


def test_a_server_error_is_tried_again_as_the_same_request(submission: Submission) -> None:
    with _serve(503, 202) as door, Client(door.url) as client:
        client.submit(submission)
    first, second = door.requests
    assert first[0]["Idempotency-Key"] == second[0]["Idempotency-Key"]
    assert _fields(*first) == _fields(*second)


def test_a_refusal_is_not_tried_again_and_keeps_its_problem(submission: Submission) -> None:
    with _serve(429) as door, Client(door.url) as client, pytest.raises(Refused) as refused:
        client.submit(submission)
    assert len(door.requests) == 1
    assert refused.value.kind == "queue-full"
    assert refused.value.status == 429
    assert refused.value.detail == "10 jobs wait"


def test_nobody_listening_is_told_at_once() -> None:
    with Door([]) as door:
        url = door.url
    with Client(url) as client, pytest.raises(ServiceUnreachable, match=url):
        client.check()


def test_a_folder_stands_for_its_files_without_hidden_ones_and_the_index(tmp_path: Path) -> None:
    for name in ("b/2", "a/1", ".hidden", "DICOMDIR"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert collect_files(tmp_path) == [tmp_path / "a" / "1", tmp_path / "b" / "2"]


def test_thousands_of_parts_need_no_open_files(tmp_path: Path) -> None:
    path = tmp_path / "slice"
    path.write_bytes(b"0123456789")
    parts = [Part(path, lambda _count: None) for _ in range(5000)]
    assert {part.seek(0, 2) for part in parts} == {10}
    for part in parts:
        part.seek(0)
        assert part.read() == b"0123456789"
