"""`GET /features/{id}/events`: every change, once, until the end."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.api import changes
from service.api.routes import events
from service.api.schemas import JobDocument
from service.client import AsyncClient, Client
from service.errors import Refused
from tests.contract.test_following import PROBLEM
from tests.running import wait_until
from tests.serving import Service, make_settings, result_document, serving

PATIENCE = 10.0  # seconds


class Stream:
    """An open stream: its events as they come."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._lines = response.iter_lines()

    def block(self) -> dict[str, str]:
        """The next block of lines, comments under the empty name."""
        found: dict[str, str] = {}
        for line in self._lines:
            if not line and found:
                return found
            name, _, value = line.partition(":")
            if line:
                found[name] = value.strip()
        return found

    def event(self) -> tuple[str, str, dict[str, Any]]:
        """The next event: its name, id and document."""
        while "data" not in (block := self.block()):
            assert block, "the stream has ended"
        document = json.loads(block["data"])
        JobDocument.model_validate(document)
        return block["event"], block["id"], document

    def ended(self) -> bool:
        return not any("data" in block for block in iter(self.block, {}))


@contextmanager
def following(service: Service, job_id: str, **headers: str) -> Iterator[Stream]:
    sent = {**service.headers, "Accept": "text/event-stream", **headers}
    with (
        httpx.Client(base_url=service.http.base_url, timeout=10, trust_env=False) as http,
        http.stream("GET", f"/features/{job_id}/events", headers=sent) as response,
    ):
        yield Stream(response)


def test_a_job_is_followed_from_the_queue_to_its_end(service: Service) -> None:
    ahead, job = service.accepted(), service.accepted(case_id="case-7")
    with following(service, job["id"]) as stream:
        assert stream.response.headers["Content-Type"].startswith("text/event-stream")
        assert stream.response.headers["Cache-Control"] == "no-store"
        name, _, document = stream.event()
        assert (name, document["status"], document["queue_position"]) == ("update", "queued", 2)
        service.succeed(ahead["id"])
        assert stream.event()[2]["queue_position"] == 1
        claim = service.claim(job["id"])
        assert stream.event()[2]["stage"] == "reading"
        service.context.ledger.report_stage(claim, "encoder")
        assert stream.event()[2]["stage"] == "encoder"
        service.context.ledger.finish(claim, {"rois": []})
        name, _, document = stream.event()
        assert (name, document["status"], document["case_id"]) == ("end", "succeeded", "case-7")
        assert "rois" not in document
        assert stream.ended()


def test_a_failure_carries_its_problem_and_a_cancelled_job_ends_the_stream(service: Service) -> None:
    failing, cancelled = service.accepted(), service.accepted()
    service.fail(failing["id"], PROBLEM)
    with following(service, failing["id"]) as stream:
        name, _, document = stream.event()
        assert (name, document["problem"]) == ("end", PROBLEM)
        assert stream.ended()
    with following(service, cancelled["id"]) as stream:
        stream.event()
        service.http.delete(f"/features/{cancelled['id']}")
        assert stream.event()[2]["status"] == "cancelled"
        assert stream.ended()


def test_a_stream_goes_on_where_it_was_cut_off(service: Service) -> None:
    job = service.accepted()
    with following(service, job["id"]) as stream:
        _, seen, _ = stream.event()
    with following(service, job["id"], **{"Last-Event-ID": seen}) as stream:
        claim = service.claim(job["id"])
        assert stream.event()[2]["status"] == "running"  # and not once more that it is queued
    service.context.ledger.finish(claim, {"rois": []})
    with following(service, job["id"], **{"Last-Event-ID": seen}) as stream:
        name, last, _ = stream.event()
        assert name == "end"
    with following(service, job["id"], **{"Last-Event-ID": last}) as stream:
        assert (stream.response.status_code, stream.response.read()) == (204, b"")


def test_the_end_is_told_at_once_where_the_broker_tells_of_it(service: Service) -> None:
    job = service.accepted()
    with following(service, job["id"]) as stream:
        stream.event()
        claim = service.claim(job["id"])
        assert stream.event()[2]["status"] == "running"
        began = time.monotonic()
        service.context.ledger.finish(claim, {"rois": []})
        assert stream.event()[0] == "end"
        assert time.monotonic() - began < 2  # without a broker: at the next look


def test_an_idle_stream_shows_that_it_lives(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "HEARTBEAT_SECONDS", 0.05)
    job = service.accepted()
    with following(service, job["id"]) as stream:
        stream.event()
        assert stream.block() == {"": "ping"}
        assert stream.block() == {"": "ping"}


def test_a_stream_ends_after_its_time_and_the_next_one_repeats_nothing(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "LONGEST_SECONDS", 0.3)
    job = service.accepted()
    with following(service, job["id"]) as stream:
        _, seen, _ = stream.event()
        assert stream.ended()
    with following(service, job["id"], **{"Last-Event-ID": seen}) as stream:
        assert stream.ended()


def test_another_owners_job_and_other_media_types_are_refused(service: Service) -> None:
    job = service.accepted()
    assert service.get(f"/features/{job['id']}/events", Accept="application/json").status_code == 406
    assert service.get(f"/features/{'0' * 32}/events").status_code == 404
    _, secret = service.context.ledger.create_key("other", ["read"], None)
    answer = service.get(f"/features/{job['id']}/events", Authorization=f"Bearer {secret}")
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/not-found")


def test_only_so_many_streams_may_be_open_and_a_closed_one_makes_room(tmp_path: Path, models: Path) -> None:
    with serving(make_settings(tmp_path / "home", models, max_streams=2)) as service:
        job = service.accepted()
        with following(service, job["id"]) as first, following(service, job["id"]) as second:
            first.event()
            second.event()
            refused = service.get(f"/features/{job['id']}/events")
            assert (refused.status_code, refused.json()["type"]) == (429, "/problems/streams-full")
            assert refused.headers["Retry-After"] == "5"
        wait_until(lambda: service.context.changes.streams == 0, PATIENCE)
        with following(service, job["id"]) as stream:
            stream.event()


def test_many_streams_cost_the_ledger_no_more_than_one(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []
    find_versions = service.context.ledger.find_versions

    def count(job_ids: Any) -> dict[str, int]:
        looks.append(len(job_ids))
        return find_versions(job_ids)

    monkeypatch.setattr(service.context.ledger, "find_versions", count)
    jobs = [service.accepted()["id"] for _ in range(3)]
    done = threading.Event()

    def follow(job_id: str) -> None:
        with following(service, job_id) as stream:
            stream.event()
            done.wait(10)

    threads = [threading.Thread(target=follow, args=[job_id]) for job_id in jobs * 5]
    for thread in threads:
        thread.start()
    wait_until(lambda: service.context.changes.streams == len(threads), PATIENCE)
    looks.clear()
    began = time.monotonic()
    wait_until(lambda: len(looks) >= 4, PATIENCE)
    during, seconds = list(looks), time.monotonic() - began
    done.set()
    for thread in threads:
        thread.join()
    assert len(during) <= seconds / changes.LOOK_SECONDS + 1
    assert set(during) == {3}


def test_nobody_looks_where_nobody_follows(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[object] = []
    monkeypatch.setattr(service.context.ledger, "find_versions", looks.append)
    service.accepted()
    time.sleep(0.6)
    assert not looks


def test_an_open_stream_does_not_hold_up_the_end_of_the_service(tmp_path: Path, models: Path) -> None:
    with serving(make_settings(tmp_path / "home", models)) as service:
        job = service.accepted()
        context = following(service, job["id"])
        stream = context.__enter__()
        stream.event()
        began = time.monotonic()
    assert time.monotonic() - began < 4  # of the ten seconds that requests under way are given
    assert stream.ended()
    context.__exit__(None, None, None)


def test_the_wait_is_estimated_and_retry_after_follows(service: Service) -> None:
    ledger = service.context.ledger
    job = service.accepted()
    assert service.get(f"/features/{job['id']}").json()["estimated_seconds"] is None
    for seconds in (6.0, 8.0, 10.0):
        done = service.accepted()["id"]
        service.succeed(done)
        with ledger.write() as (connection, now):
            connection.exec_driver_sql(
                f"UPDATE jobs SET started_at={now - seconds}, finished_at={now} WHERE id='{done}'"
            )
    ledger.beat("w", "worker", 1)
    second = service.accepted()

    def estimated() -> float | None:
        return service.get(f"/features/{job['id']}").json()["estimated_seconds"]

    wait_until(lambda: estimated() == 8.0, PATIENCE)  # the figures are measured anew once a second
    first_answer, second_answer = (service.get(f"/features/{each['id']}") for each in (job, second))

    assert [answer.json()["estimated_seconds"] for answer in (first_answer, second_answer)] == [8.0, 16.0]
    assert [answer.headers["Retry-After"] for answer in (first_answer, second_answer)] == ["8", "16"]
    service.claim(job["id"])
    wait_until(lambda: (estimated() or 8.0) < 8.0, PATIENCE)  # it runs
    service.context.ledger.remove_job(job["id"], "local")
    assert estimated() is None


def test_the_client_follows_a_job_and_goes_on_where_it_was_cut_off(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "LONGEST_SECONDS", 0.3)
    job = service.accepted()
    url = str(service.http.base_url)
    seen: tuple[list[str], list[str]] = ([], [])

    def run() -> None:
        wait_until(lambda: all("queued" in each for each in seen), PATIENCE)
        claim = service.claim(job["id"])
        wait_until(lambda: all("running" in each for each in seen), PATIENCE)
        service.context.ledger.finish(claim, {"rois": []})

    async def follow() -> None:
        async with AsyncClient(url) as client:
            async for document in client.follow(job["id"]):
                seen[0].append(document["status"])

    worker = threading.Thread(target=run)
    worker.start()
    with Client(url) as client, ThreadPoolExecutor(1) as pool:
        other = pool.submit(asyncio.run, follow())
        for document in client.follow(job["id"]):
            seen[1].append(document["status"])
        other.result(10)
        assert seen == (["queued", "running", "succeeded"],) * 2
        assert [document["status"] for document in client.follow(job["id"])] == ["succeeded"]
        with pytest.raises(Refused, match="no such job"):
            list(client.follow("0" * 32))
    worker.join()


@pytest.mark.parametrize("max_streams", [1, 200])
def test_whoever_waits_sees_the_stages_by_events_or_by_asking(tmp_path: Path, models: Path, max_streams: int) -> None:
    seen: list[str] = []
    with serving(make_settings(tmp_path / "home", models, max_streams=max_streams)) as service:
        job, other = service.accepted(), service.accepted()
        url = str(service.http.base_url)

        def run() -> None:
            while "queued" not in seen:
                time.sleep(0.01)
            claim = service.claim(job["id"])
            while "encoder" not in seen:
                service.context.ledger.report_stage(claim, "encoder")
                time.sleep(0.1)
            service.context.ledger.finish(claim, result_document())

        worker = threading.Thread(target=run)
        worker.start()
        with (
            following(service, other["id"]) as stream,
            Client(url, on_status=lambda each: seen.append(each["stage"] or each["status"])) as client,
        ):
            stream.event()
            document = client.wait(job["id"])
        worker.join()
    assert document["rois"]
    assert seen[0] == "queued"
    assert seen[-1] == "encoder"
