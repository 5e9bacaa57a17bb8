"""`GET`, `DELETE` and the list of `/features`, line by line of the contract."""

import csv
import io
import threading
import time
from datetime import timedelta

import pytest

from service.api import waiting
from service.api.schemas import JobDocument, JobPage
from tests.serving import FEATURES, Service

PROBLEM = {
    "type": "/problems/empty-roi",
    "title": "The region of interest is empty",
    "status": 422,
    "detail": "no voxel",
}


def test_a_waiting_job_knows_its_place(service: Service) -> None:
    first, second = service.accepted(), service.accepted()
    assert service.get(f"/features/{first['id']}").json()["queue_position"] == 1
    assert service.get(f"/features/{second['id']}").json()["queue_position"] == 2


def test_a_running_job_shows_its_stage(service: Service) -> None:
    job = service.accepted()
    claim = service.claim(job["id"])
    seen = []
    for stage in ("reading", "radiomics", "encoder", "prediction"):
        service.context.ledger.report_stage(claim, stage)
        answer = service.get(f"/features/{job['id']}")
        document = JobDocument.model_validate(answer.json())
        assert (document.status, document.stage, document.queue_position) == ("running", stage, None)
        assert "Retry-After" in answer.headers
        seen.append(document.progress)
    assert seen == [0, 0.25, 0.5, 0.75]


def test_a_succeeded_job_carries_its_result(service: Service) -> None:
    job = service.accepted(case_id="case-7")
    service.succeed(job["id"])
    answer = service.get(f"/features/{job['id']}")
    document = JobDocument.model_validate(answer.json())
    assert (document.status, document.progress, document.case_id) == ("succeeded", 1, "case-7")
    assert document.rois is not None
    assert list(document.rois[0].features.items()) == list(FEATURES.items())  # the order is part of the contract
    assert document.rois[0].predictions[0].label == "smooth"
    assert document.provenance is not None
    assert document.model is not None
    assert document.model.sha256 == "0" * 64
    assert "Retry-After" not in answer.headers


def test_a_failed_job_carries_its_problem(service: Service) -> None:
    job = service.accepted()
    service.fail(job["id"], PROBLEM)
    answer = service.get(f"/features/{job['id']}")
    document = JobDocument.model_validate(answer.json())
    assert (answer.status_code, document.status, document.progress) == (200, "failed", 0)
    assert answer.json()["problem"] == PROBLEM
    assert document.rois is None


def test_a_job_cancelled_while_running_is_a_tombstone_without_content(service: Service) -> None:
    job = service.accepted(case_id="case-7")
    service.claim(job["id"])
    assert service.http.delete(f"/features/{job['id']}").status_code == 204
    document = JobDocument.model_validate(service.get(f"/features/{job['id']}").json())
    assert (document.status, document.case_id, document.model) == ("cancelled", None, None)


def test_an_expired_job_is_a_tombstone_without_content(service: Service) -> None:
    job = service.accepted(case_id="case-7")
    service.succeed(job["id"])
    time.sleep(0.5)
    service.context.ledger.reconcile(requeue_seconds=60, max_attempts=3, retention_seconds=0.4)
    document = JobDocument.model_validate(service.get(f"/features/{job['id']}").json())
    assert (document.status, document.case_id, document.rois) == ("expired", None, None)


def test_an_unchanged_job_answers_304(service: Service) -> None:
    job = service.accepted()
    etag = service.get(f"/features/{job['id']}").headers["ETag"]
    unchanged = service.get(f"/features/{job['id']}", **{"If-None-Match": f'"other", {etag}'})
    assert (unchanged.status_code, unchanged.content, unchanged.headers["ETag"]) == (304, b"", etag)
    service.succeed(job["id"])
    changed = service.get(f"/features/{job['id']}", **{"If-None-Match": etag})
    assert changed.status_code == 200
    assert changed.headers["ETag"] != etag


def test_moving_up_in_the_queue_changes_the_etag(service: Service) -> None:
    first, second = service.accepted(), service.accepted()
    etag = service.get(f"/features/{second['id']}").headers["ETag"]
    service.succeed(first["id"])
    assert service.get(f"/features/{second['id']}", **{"If-None-Match": etag}).status_code == 200


def test_asking_may_wait_too(service: Service) -> None:
    job = service.accepted()
    started = time.monotonic()
    answer = service.get(f"/features/{job['id']}", Prefer="wait=1")
    assert (answer.status_code, answer.headers["Preference-Applied"]) == (200, "wait=1")
    assert answer.json()["status"] == "queued"
    assert time.monotonic() - started >= 1


@pytest.mark.parametrize("accept", ["text/csv", "text/*;q=1, application/json;q=0.5", "TEXT/CSV"])
def test_a_result_comes_as_a_table_with_a_row_per_region(service: Service, accept: str) -> None:
    job = service.accepted(case_id="case-7")
    service.succeed(job["id"])
    answer = service.get(f"/features/{job['id']}", Accept=accept)
    (row,) = csv.DictReader(io.StringIO(answer.text))
    assert answer.headers["Content-Type"].startswith("text/csv")
    assert (row["case_id"], row["roi"], row["original_firstorder_Mean"]) == ("case-7", "1", "-12.5")
    assert "Accept" in answer.headers["Vary"]
    seen = service.get(f"/features/{job['id']}", **{"Accept": accept, "If-None-Match": answer.headers["ETag"]})
    assert seen.status_code == 304


@pytest.mark.parametrize("accept", ["*/*", "application/*", "application/json", "text/csv;q=0.1, */*", ""])
def test_json_is_the_default(service: Service, accept: str) -> None:
    job = service.accepted()
    answer = service.get(f"/features/{job['id']}", Accept=accept)
    assert answer.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    "accept", ["application/zip", "image/png", "application/json;q=0, application/zip", "json", "text/csv;q=x"]
)
def test_what_cannot_be_produced_is_406(service: Service, accept: str) -> None:
    job = service.accepted()
    answer = service.get(f"/features/{job['id']}", Accept=accept)
    assert (answer.status_code, answer.json()["type"]) == (406, "/problems/not-acceptable")
    offers = ["application/json", "text/csv", "application/vnd.apache.parquet", "application/dicom"]
    assert answer.json()["offers"] == offers


@pytest.mark.parametrize(("path", "accept"), [("", "text/csv"), ("/preview.png", "*/*")])
def test_table_and_picture_need_a_success(service: Service, path: str, accept: str) -> None:
    waiting, failed = service.accepted(), service.accepted()
    service.fail(failed["id"], PROBLEM)
    early = service.get(f"/features/{waiting['id']}{path}", Accept=accept)
    assert (early.status_code, early.json()["job_status"]) == (409, "queued")
    assert "Retry-After" in early.headers
    never = service.get(f"/features/{failed['id']}{path}", Accept=accept)
    assert (never.status_code, never.json()["job_problem"]) == (409, PROBLEM)
    assert "Retry-After" not in never.headers


def test_the_picture_is_served(service: Service) -> None:
    job = service.accepted()
    service.succeed(job["id"], preview=b"\x89PNG picture")
    answer = service.get(f"/features/{job['id']}/preview.png")
    assert (answer.content, answer.headers["Content-Type"]) == (b"\x89PNG picture", "image/png")


def test_a_picture_still_being_drawn_is_waited_for(service: Service) -> None:
    job = service.accepted()
    service.succeed(job["id"], preview=None)
    drawn = threading.Timer(0.3, service.context.ledger.add_preview, [job["id"], b"\x89PNG picture"])
    drawn.start()
    assert service.get(f"/features/{job['id']}/preview.png").content == b"\x89PNG picture"
    drawn.join()


def test_a_picture_that_did_not_come_is_not_found(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "PICTURE_TIME", timedelta(seconds=0.2))
    job = service.accepted()
    service.succeed(job["id"], preview=None)
    assert service.get(f"/features/{job['id']}/preview.png").status_code == 404
    began = time.monotonic()
    assert service.get(f"/features/{job['id']}/preview.png").status_code == 404
    assert time.monotonic() - began < 0.2  # its time is over: there is nothing to wait for


def test_a_repeat_of_a_job_that_has_ended_is_answered_with_its_result(service: Service) -> None:
    job = service.accepted(headers={"Idempotency-Key": "k"})
    service.succeed(job["id"])
    repeated = service.submit(headers={"Idempotency-Key": "k"})
    assert (repeated.status_code, repeated.json()["id"]) == (202, job["id"])
    assert repeated.json()["rois"] == service.get(f"/features/{job['id']}").json()["rois"]


def test_removing_leaves_no_trace(service: Service) -> None:
    job = service.accepted(case_id="case-7")
    service.succeed(job["id"])
    assert service.files()
    answer = service.http.delete(f"/features/{job['id']}")
    assert (answer.status_code, answer.content) == (204, b"")
    assert service.get(f"/features/{job['id']}").status_code == 404
    assert service.http.delete(f"/features/{job['id']}").status_code == 404
    assert not service.files()


def test_the_list_is_paged_newest_first(service: Service) -> None:
    ids = [service.accepted(case_id=f"case-{number}")["id"] for number in range(5)]
    path, seen = "/features?limit=2&status=queued", []
    while path:
        answer = service.get(path)
        page = JobPage.model_validate(answer.json())
        seen.append([item.id for item in page.items])
        link = answer.links.get("next", {}).get("url", "")
        assert bool(link) == bool(page.next)
        path = link
    assert seen == [[ids[4], ids[3]], [ids[2], ids[1]], [ids[0]]]


def test_the_list_can_be_narrowed_to_a_status(service: Service) -> None:
    first, second = service.accepted(), service.accepted()
    service.context.ledger.mark_queued(service.context.ledger.take_accepted(1))  # both are "queued" to callers
    assert len(service.get("/features?status=queued").json()["items"]) == 2
    service.succeed(first["id"])
    assert [item["id"] for item in service.get("/features?status=queued").json()["items"]] == [second["id"]]
    (done,) = service.get("/features?status=succeeded").json()["items"]
    assert done["id"] == first["id"]
    assert "rois" not in done


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=x", "limit"),
        ("status=accepted", "status"),
        ("before=x", "before"),
        ("sort=up", "sort"),
    ],
)
def test_a_wrong_query_names_its_parameter(shared: Service, query: str, field: str) -> None:
    answer = shared.get(f"/features?{query}")
    assert (answer.status_code, answer.json()["field"]) == (422, field)
