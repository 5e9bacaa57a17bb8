"""Requests made to exhaust or confuse the API itself: forms that lie, bodies that do not come, heads without end."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.client import HTTPException, HTTPResponse

from tests.bundle_builder import NAME
from tests.faults.attacks_service import Target

MIB = 1024**2
HEADERS = {"Content-Type": "multipart/form-data; boundary=b"}
CLOSED = "closed"
Sender = Callable[[Target], str]


def part(name: str, content: bytes, filename: str | None = "x") -> bytes:
    """One part of a form with the boundary `b`."""
    file = f'; filename="{filename}"' if filename else ""
    return f'--b\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode() + content + b"\r\n"


END = b"--b--\r\n"
START = part("image", b"")[:-2]


def posts(body: bytes, **headers: str) -> Sender:
    """Send a body as a form; its outcome is a problem's slug or "accepted"."""

    def send(target: Target) -> str:
        answer = target.http.post(
            "/features", content=body, headers={**HEADERS, **{k.replace("_", "-"): v for k, v in headers.items()}}
        )
        return slug(answer.status_code, answer.content)

    return send


def slug(status: int, body: bytes) -> str:
    """The problem's slug; "accepted" where there is none."""
    if status in (200, 202):
        return "accepted"
    return str(json.loads(body)["type"]).removeprefix("/problems/")


def says(*lines: str) -> bytes:
    """The head of a POST with these lines."""
    return "\r\n".join(["POST /features HTTP/1.1", "Host: 127.0.0.1", *lines, "", ""]).encode()


def chunk(content: bytes) -> bytes:
    """One chunk of a body without a length."""
    return f"{len(content):x}\r\n".encode() + content + b"\r\n"


FORM = "Content-Type: multipart/form-data; boundary=b"
CHUNKED = "Transfer-Encoding: chunked"


def talks(start: bytes, again: bytes = b"", every: float = 0.05, most: float = 30) -> Sender:
    """Send bytes on a bare connection, then others again and again; its outcome is the answer's, or "closed"."""

    def send(target: Target) -> str:
        deadline = time.monotonic() + most
        with socket.create_connection(target.address, timeout=most) as connection:
            try:
                connection.sendall(start)
                while again and time.monotonic() < deadline and not has_answer(connection, every):
                    connection.sendall(again)
                return read_answer(connection)
            except OSError:
                return CLOSED

    return send


def has_answer(connection: socket.socket, seconds: float) -> bool:
    """Whether something came, the end included."""
    connection.settimeout(seconds)
    try:
        connection.recv(1, socket.MSG_PEEK)
    except TimeoutError:
        return False
    finally:
        connection.settimeout(30)
    return True


def read_answer(connection: socket.socket) -> str:
    """The outcome that an answer tells."""
    answer = HTTPResponse(connection)
    try:
        answer.begin()
    except HTTPException:
        return CLOSED
    body = answer.read()
    if answer.getheader("Content-Type") == "application/problem+json":
        return slug(answer.status, body)
    return f"status {answer.status}"


def crowd(target: Target) -> str:
    """Three hundred uploads begun at once, none of which goes on; a case must still get through."""
    with ExitStack() as stack:
        for _ in range(300):
            connection = stack.enter_context(socket.create_connection(target.address, timeout=10))
            connection.sendall(says(FORM, "Content-Length: 1000000") + START)
        answer = target.http.get("/livez")
        models = target.http.get("/models")
        return "accepted" if (answer.status_code, models.status_code) == (200, 200) else "not answered"


def requests() -> Iterator[tuple[str, Sender, tuple[str, ...]]]:
    """Yield each attack's name, how it is made, and the outcomes that are right."""
    model = part("model", NAME.encode(), None)
    mask = part("mask", b"x")
    malformed, large, field = ("bad-request",), ("too-large",), ("invalid-field",)
    many = b"".join(part("image", b"x") for _ in range(20_000))
    yield "20,000 parts", posts(many + END), large
    yield "200,000 text parts", posts(part("case_id", b"x", None) * 200_000 + END), field
    yield "100,000 headers in a part", posts(b"--b\r\n" + b"A: b\r\n" * 100_000), malformed
    yield "a part's header of 20 MiB", posts(b"--b\r\nA: " + b"b" * 20 * MIB), malformed
    yield "a header's name of 20 MiB", posts(b"--b\r\n" + b"b" * 20 * MIB), malformed
    yield "a text field of 20 MiB", posts(part("case_id", b"x" * 20 * MIB, None) + END), large
    yield "no boundary named", posts(mask, Content_Type="multipart/form-data"), ("unsupported-media",)
    yield "a boundary that never comes, 20 MiB", posts(b"x" * 20 * MIB), malformed
    yield (
        "the boundary within a file",
        posts(part("image", b"x\r\n--b--\r\n" + b"y" * MIB) + mask + END),
        (*malformed, *field),
    )
    yield "a file that opens a second part", posts(part("image", b"x\r\n--b\r\nA: b\r\n\r\n") + END), malformed
    yield "no closing boundary", posts(START + b"x" * MIB), malformed
    yield "a name of 3,000 letters", posts(part("i" * 3000, b"x") + END), field
    yield "a name that is a path", posts(part("../../etc/passwd", b"x") + END), field
    yield "bytes that are no UTF-8", posts(part("case_id", b"\xff\xfe", None) + END), field
    yield "a compressed body", posts(b"x", Content_Encoding="gzip"), ("unsupported-media",)
    endless = chunk(b"x" * MIB)
    yield "a body without end", talks(says(FORM, CHUNKED) + chunk(START), endless, every=0.001), large
    yield "parameters that multiply themselves", posts(part("radiomics", laughs()) + model + END), field
    yield "parameters 30,000 deep", posts(part("radiomics", b"[" * 30_000) + model + END), field
    yield "a length of 2^63", talks(says(FORM, f"Content-Length: {2**63}")), large
    yield "two lengths", talks(says(FORM, "Content-Length: 5", "Content-Length: 6") + b"x"), ("status 400", *malformed)
    yield (
        "a length beside chunks",
        talks(says(FORM, "Content-Length: 5", "Transfer-Encoding: chunked") + b"0\r\n\r\n"),
        ("status 400", *malformed),
    )
    yield "a head of 100 KiB", talks(b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 100_000), ("status 400", *malformed)
    yield "no HTTP at all", talks(b"\x16\x03\x01" + bytes(200) + b"\r\n\r\n"), ("status 400", *malformed)
    yield "an upload that stops", talks(says(FORM, "Content-Length: 1000000") + START), ("upload-stalled",)
    yield (
        "an upload, a byte every 50 ms",
        talks(says(FORM, "Content-Length: 1000000") + START, b"x"),
        ("upload-stalled",),
    )
    yield (
        "a chunk's length that never ends",
        talks(says(FORM, CHUNKED), b"0"),
        (CLOSED, "status 400", *malformed, "upload-stalled"),
    )
    yield "300 uploads that stop", crowd, ("accepted",)


def laughs() -> bytes:
    """Aliases of aliases: 10^9 of the innermost."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    return "\n".join(lines).encode()
