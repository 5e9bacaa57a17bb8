"""Webhooks, from the form field to a real receiver: signed, repeated until heard, in nobody's way."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import structlog
from standardwebhooks import Webhook, WebhookVerificationError

from service import webhooks
from service.webhooks import Postman
from tests.serving import Service, make_settings, serving

KEY, NEW_KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_plJ3nmyCDGBKInavdOK15jsl4O3Fq2ZV"


@dataclass
class Receiver:
    """A web server that keeps what it gets and answers as it is told: by status, or by a function of the request."""

    answers: list[int | Callable[[BaseHTTPRequestHandler], int]] = field(default_factory=list)
    heads: list[dict[str, str]] = field(default_factory=list)
    bodies: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    url: str = ""

    def await_messages(self, count: int, seconds: float = 10) -> None:
        deadline = time.monotonic() + seconds
        while len(self.bodies) < count:
            assert time.monotonic() < deadline, f"{len(self.bodies)} of {count} messages came"
            time.sleep(0.01)


@contextmanager
def receiving(*answers: int | Callable[[BaseHTTPRequestHandler], int]) -> Iterator[Receiver]:
    receiver = Receiver(list(answers))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            receiver.heads.append({name.lower(): value for name, value in self.headers.items()})
            receiver.paths.append(self.path)
            receiver.bodies.append(body)
            answer = receiver.answers.pop(0) if receiver.answers else 204
            self.send_response(answer if isinstance(answer, int) else answer(self))
            self.send_header("Location", f"{receiver.url}/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_arguments: Any) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_arguments: Any) -> None:
            """Say nothing of clients that went away."""

    with Server(("127.0.0.1", 0), Handler) as server:
        receiver.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=[0.02])
        thread.start()
        yield receiver
        server.shutdown()
        thread.join()


@contextmanager
def offering(home: Path, models: Path, *targets: str, key: str = KEY) -> Iterator[Service]:
    """An API that lets webhooks go to these targets."""
    with serving(make_settings(home, models, webhook_targets=" ".join(targets), webhook_secret=key)) as service:
        yield service


@contextmanager
def delivering(service: Service) -> Iterator[threading.Event]:
    stop = threading.Event()
    thread = threading.Thread(target=Postman(service.settings, service.context.ledger).run, args=[stop])
    thread.start()
    yield stop
    stop.set()
    thread.join(5)
    assert not thread.is_alive()


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "DELAYS_SECONDS", (0.05, 0.05, 0.05))
    monkeypatch.setattr(webhooks, "POLL_SECONDS", 0.02)


def await_end(service: Service, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while service.context.ledger.count_deliveries():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_end_of_a_job_is_told_and_signed_and_nothing_of_the_case(tmp_path: Path, models: Path) -> None:
    with receiving() as receiver, offering(tmp_path / "home", models, f"{receiver.url}/hooks") as service:
        job = service.accepted(case_id="case-7", webhook=f"{receiver.url}/hooks/a?run=7")
        with delivering(service):
            service.succeed(job["id"])
            receiver.await_messages(1)
            await_end(service)
    message = Webhook(KEY).verify(receiver.bodies[0], receiver.heads[0])
    assert message["type"] == "features.succeeded"
    assert message["data"] == {"id": job["id"], "status": "succeeded", "links": {"self": f"/features/{job['id']}"}}
    assert "case-7" not in receiver.bodies[0]
    assert receiver.paths == ["/hooks/a?run=7"]
    assert receiver.heads[0]["content-type"] == "application/json"
    with pytest.raises(WebhookVerificationError):
        Webhook(NEW_KEY).verify(receiver.bodies[0], receiver.heads[0])


def test_failures_and_cancellations_are_told_too(tmp_path: Path, models: Path) -> None:
    with receiving() as receiver, offering(tmp_path / "home", models, receiver.url) as service:
        failing, cancelled = (service.accepted(webhook=f"{receiver.url}/x") for _ in range(2))
        service.fail(failing["id"], {"title": "no", "detail": "a name"})
        service.http.delete(f"/features/{cancelled['id']}")
        with delivering(service):
            receiver.await_messages(2)
            await_end(service)
    told = {each["data"]["id"]: each["data"]["status"] for each in map(json.loads, receiver.bodies)}
    assert told == {failing["id"]: "failed", cancelled["id"]: "cancelled"}


def test_every_key_signs_so_that_keys_can_be_changed(tmp_path: Path, models: Path) -> None:
    with (
        receiving() as receiver,
        offering(tmp_path / "home", models, receiver.url, key=f"{NEW_KEY} {KEY}") as service,
        delivering(service),
    ):
        service.succeed(service.accepted(webhook=receiver.url)["id"])
        receiver.await_messages(1)
    for key in (KEY, NEW_KEY):
        Webhook(key).verify(receiver.bodies[0], receiver.heads[0])


def test_an_unheard_message_is_repeated_the_same_and_redirects_are_not_followed(tmp_path: Path, models: Path) -> None:
    with (
        receiving(500, 302) as receiver,
        offering(tmp_path / "home", models, receiver.url) as service,
        delivering(service),
    ):
        service.succeed(service.accepted(webhook=f"{receiver.url}/x")["id"])
        receiver.await_messages(3)
        await_end(service)
    assert receiver.paths == ["/x"] * 3
    assert len(set(receiver.bodies)) == 1
    assert len({head["webhook-id"] for head in receiver.heads}) == 1
    for head, body in zip(receiver.heads, receiver.bodies, strict=True):
        Webhook(KEY).verify(body, head)


@pytest.mark.parametrize(("answers", "tries"), [([410], 1), ([503] * 9, 4)])
def test_a_receiver_that_is_gone_or_never_well_is_given_up(
    tmp_path: Path, models: Path, answers: list[int], tries: int
) -> None:
    with (
        receiving(*answers) as receiver,
        offering(tmp_path / "home", models, receiver.url) as service,
        structlog.testing.capture_logs() as lines,
        delivering(service),
    ):
        service.succeed(service.accepted(webhook=f"{receiver.url}/secret-path?token=abc")["id"])
        await_end_of_delivery(service)
    assert len(receiver.bodies) == tries
    assert [line["event"] for line in lines if line["event"] == "webhook-given-up"] == ["webhook-given-up"]
    assert "secret-path" not in str(lines)
    assert "token" not in str(lines)


def await_end_of_delivery(service: Service) -> None:
    """Wait until it was there and is there no more."""
    deadline = time.monotonic() + 10
    while not service.context.ledger.count_deliveries() and time.monotonic() < deadline - 9:
        time.sleep(0.005)
    await_end(service)


def test_a_receiver_that_does_not_answer_delays_nobody_else_and_is_tried_again(
    tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "ANSWER_SECONDS", 1.0)
    patience = threading.Event()

    def say_nothing(_request: BaseHTTPRequestHandler) -> int:
        patience.wait(10)
        return 204

    with (
        receiving(say_nothing) as slow,
        receiving() as quick,
        offering(tmp_path / "home", models, slow.url, quick.url) as service,
        delivering(service),
    ):
        service.succeed(service.accepted(webhook=slow.url)["id"])
        slow.await_messages(1)
        began = time.monotonic()
        service.succeed(service.accepted(webhook=quick.url)["id"])
        quick.await_messages(1)
        assert time.monotonic() - began < 0.9
        slow.await_messages(2)
        await_end(service)
        patience.set()


def test_nobody_there_is_tried_again(tmp_path: Path, models: Path) -> None:
    with receiving() as receiver:
        url = receiver.url
    with offering(tmp_path / "home", models, url) as service, structlog.testing.capture_logs() as lines:
        service.succeed(service.accepted(webhook=url)["id"])
        with delivering(service):
            await_end(service)
    assert [line["attempt"] for line in lines if line["event"] == "webhook-failed"] == [1, 2, 3]


def test_no_proxy_of_the_environment_is_used(tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with receiving() as receiver, offering(tmp_path / "home", models, receiver.url) as service, delivering(service):
        service.succeed(service.accepted(webhook=receiver.url)["id"])
        receiver.await_messages(1)


def test_a_stop_in_the_middle_of_a_message_leaves_it_due_at_once(tmp_path: Path, models: Path) -> None:
    patience = threading.Event()

    def say_nothing(_request: BaseHTTPRequestHandler) -> int:
        patience.wait(10)
        return 204

    with receiving(say_nothing) as receiver, offering(tmp_path / "home", models, receiver.url) as service:
        service.succeed(service.accepted(webhook=receiver.url)["id"])
        with delivering(service):
            receiver.await_messages(1)
        with delivering(service):
            receiver.await_messages(2, seconds=3)
            await_end(service)
        patience.set()
    assert receiver.heads[0]["webhook-id"] == receiver.heads[1]["webhook-id"]


def test_a_dispatcher_killed_between_sending_and_noting_sends_it_again(tmp_path: Path, models: Path) -> None:
    running: list[subprocess.Popen[bytes]] = []

    def kill_the_sender(_request: BaseHTTPRequestHandler) -> int:
        os.kill(running[-1].pid, signal.SIGKILL)
        running[-1].wait(10)
        return 204

    with receiving(kill_the_sender) as receiver, offering(tmp_path / "home", models, receiver.url) as service:
        values = {"HOME": service.home, "WEBHOOK_TARGETS": receiver.url, "WEBHOOK_SECRET": KEY, "MODELS": models}
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RADFUSE_")}
        environment |= {f"RADFUSE_{name}": str(value) for name, value in values.items()}

        def start() -> None:
            command = [sys.executable, "-m", "service.dispatcher"]
            running.append(subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL))

        service.succeed(service.accepted(webhook=f"{receiver.url}/x")["id"])
        start()
        receiver.await_messages(1, seconds=30)
        with service.context.ledger.write() as (connection, _):  # half a minute later
            connection.exec_driver_sql("UPDATE deliveries SET taken_until = 0")
        start()
        receiver.await_messages(2, seconds=30)
        await_end(service)
        running[-1].terminate()
        assert running[-1].wait(20) == 0
    assert receiver.bodies[0] == receiver.bodies[1]
    assert receiver.heads[0]["webhook-id"] == receiver.heads[1]["webhook-id"]


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/", "http://127.0.0.1:9000/hooks/../x", "nonsense", ""])
def test_other_addresses_are_refused_at_the_door(tmp_path: Path, models: Path, address: str) -> None:
    with offering(tmp_path / "home", models, "http://127.0.0.1:9000/hooks") as service:
        answer = service.submit(webhook=address)
        assert (answer.status_code, answer.json()["field"]) == (422, "webhook")
        assert not service.files()


def test_the_same_key_with_another_webhook_is_a_conflict(tmp_path: Path, models: Path) -> None:
    with offering(tmp_path / "home", models, "http://127.0.0.1:9000/") as service:
        sent = {"headers": {"Idempotency-Key": "k"}}
        first = service.submit(webhook="http://127.0.0.1:9000/a", **sent)
        assert service.submit(webhook="http://127.0.0.1:9000/a", **sent).json()["id"] == first.json()["id"]
        assert service.submit(webhook="http://127.0.0.1:9000/b", **sent).json()["type"].endswith("idempotency-conflict")
