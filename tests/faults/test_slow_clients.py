"""Clients that hold a connection and send next to nothing are let go of within a bounded time."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.api.protocol import PatientProtocol
from tests.bundle_builder import write_bundle
from tests.serving import Service, make_settings, serving

HEAD = b"POST /features HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9000000\r\n"
PART = b'--b\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n'


def trickle(service: Service, start: bytes, seconds: float) -> float:
    """Send `start`, then a byte every 50 ms; return after how long the server closed the connection."""
    began = time.monotonic()
    with socket.create_connection(service.address, timeout=5) as connection:
        connection.sendall(start)
        while time.monotonic() - began < seconds:
            try:
                connection.sendall(b"x")
            except OSError:
                return time.monotonic() - began
            time.sleep(0.05)
    return seconds


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("models")).parent


@pytest.fixture
def impatient(tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """A service that waits half a second for a request."""
    monkeypatch.setattr(PatientProtocol, "patience_seconds", 0.5)
    with serving(make_settings(tmp_path / "home", models)) as running:
        yield running


@pytest.mark.parametrize(
    "start",
    [
        pytest.param(b"", id="request line"),
        pytest.param(b"GET /livez HTTP/1.1\r\nX: ", id="header"),
        pytest.param(HEAD + b"Content-Type: text/plain\r\n\r\n", id="body of a refused request"),
        pytest.param(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\nGET ", id="second request"),
    ],
)
def test_a_trickled_request_is_cut_off(impatient: Service, start: bytes) -> None:
    assert 0.4 < trickle(impatient, start, 3) < 1.5


def test_a_connection_on_which_nothing_comes_is_closed(impatient: Service) -> None:
    with socket.create_connection(impatient.address, timeout=5) as connection:
        assert connection.recv(1) == b""


def test_a_request_at_work_is_waited_for(impatient: Service) -> None:
    job = impatient.accepted()
    began = time.monotonic()
    answer = impatient.get(f"/features/{job['id']}", Prefer="wait=1")
    assert answer.status_code == 200
    assert time.monotonic() - began >= 1


def test_an_upload_slower_than_the_least_rate_is_dropped(tmp_path: Path, models: Path) -> None:
    settings = make_settings(tmp_path / "home", models, upload_idle_seconds=0.5, upload_bytes_per_second=1000)
    with serving(settings) as service, socket.create_connection(service.address, timeout=5) as connection:
        began = time.monotonic()
        connection.sendall(HEAD + b"Content-Type: multipart/form-data; boundary=b\r\n\r\n" + PART)
        connection.settimeout(0.05)
        answer = b""
        while not answer and time.monotonic() - began < 5:
            connection.sendall(b"x")
            try:
                answer = connection.recv(4096)
            except TimeoutError:
                continue
        assert answer.startswith(b"HTTP/1.1 408")
        assert time.monotonic() - began < 2
        assert not service.files()
