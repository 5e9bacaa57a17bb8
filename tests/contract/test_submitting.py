"""`POST /features`, line by line of the contract."""

import threading
import time
from typing import Any

import pytest

from service.api.schemas import JobDocument
from service.job import JobRequest
from tests.serving import Service


def request_of(service: Service, job_id: str) -> JobRequest:
    request = service.context.ledger.find_job(job_id, "local").request
    assert request is not None
    return request


def test_an_accepted_case_answers_202_with_its_address(service: Service) -> None:
    answer = service.submit(case_id="case-7")
    document = JobDocument.model_validate(answer.json())
    assert answer.status_code == 202
    assert answer.headers["Location"] == f"/features/{document.id}"
    assert int(answer.headers["Retry-After"]) >= 1
    assert "Preference-Applied" not in answer.headers
    assert (document.status, document.queue_position, document.case_id) == ("queued", 1, "case-7")
    assert document.model is not None
    assert document.model.version == "1.0.0"


def test_what_was_accepted_is_on_the_disk_and_in_the_ledger(service: Service) -> None:
    job = service.accepted(image=b"12345", mask=b"67")
    request = request_of(service, job["id"])
    paths = service.context.storage.paths(job["id"], request)
    assert [path.read_bytes() for path in paths.values()] == [b"12345", b"67"]
    assert [(upload.role, upload.channel, upload.bytes) for upload in request.files] == [
        ("image", "ct", 5),
        ("mask", None, 2),
    ]


def test_a_dicom_series_comes_as_many_parts(service: Service) -> None:
    job = service.accepted(image=[b"slice %d" % number for number in range(40)])
    names = [upload.file for upload in request_of(service, job["id"]).files if upload.role == "image"]
    assert len(names) == len(set(names)) == 40


def test_several_channels_choose_the_model_that_has_them(service: Service) -> None:
    job = service.accepted(image=None, image__flair=b"f", image__t1ce=b"t")
    request = request_of(service, job["id"])
    assert request.model == "small-mr@2.1.0"
    assert {upload.channel for upload in request.files} == {"flair", "t1ce", None}


@pytest.mark.parametrize("model", [None, "small-ct", "small-ct@1.0.0"])
def test_the_model_may_be_named_versioned_or_left_out_where_one_fits(shared: Service, model: str | None) -> None:
    job = shared.accepted(model=model)
    assert request_of(shared, job["id"]).model == "small-ct@1.0.0"
    assert job["model"] == {"name": "small-ct", "version": "1.0.0"}


def test_the_only_channel_may_also_be_named(shared: Service) -> None:
    job = shared.accepted(image=None, image__ct=b"x")
    assert {upload.channel for upload in request_of(shared, job["id"]).files} == {"ct", None}


def test_options_reach_the_job(shared: Service) -> None:
    job = shared.accepted(
        roi="GTV-1 (links)", radiomics="full", resample_mask="true", radiomics_axes="stored", case_id="Fall 1 ü"
    )
    request = request_of(shared, job["id"])
    assert (request.roi, request.preset, request.resample_mask) == (("GTV-1 (links)",), "full", True)
    assert (request.radiomics_axes, request.parameters, job["case_id"]) == ("stored", None, "Fall 1 ü")


def test_a_parameter_file_is_checked_and_kept(shared: Service) -> None:
    job = shared.accepted(radiomics=b"imageType:\n  Original: {}\nsetting:\n  binWidth: 10\n")
    request = request_of(shared, job["id"])
    assert request.preset is None
    assert request.parameters is not None
    assert request.parameters["setting"]["binWidth"] == 10


def test_waiting_answers_200_with_the_result_once_it_is_there(service: Service) -> None:
    worker = threading.Thread(target=_finish_next, args=(service, 0.3))
    worker.start()
    answer = service.submit(headers={"Prefer": "wait=20"})
    worker.join()
    assert (answer.status_code, answer.headers["Preference-Applied"]) == (200, "wait=20")
    document = JobDocument.model_validate(answer.json())
    assert document.status == "succeeded"
    assert document.rois is not None
    assert "Retry-After" not in answer.headers


def test_waiting_in_vain_answers_202(shared: Service) -> None:
    started = time.monotonic()
    answer = shared.submit(headers={"Prefer": "respond-async, wait=1"})
    assert answer.status_code == 202
    assert 1 <= time.monotonic() - started < 3


def test_nobody_waits_longer_than_a_minute(service: Service) -> None:
    worker = threading.Thread(target=_finish_next, args=(service, 0.0))
    worker.start()
    answer = service.submit(headers={"Prefer": "wait=86400"})
    worker.join()
    assert answer.headers["Preference-Applied"] == "wait=60"


def test_the_same_key_and_content_give_the_same_job(service: Service) -> None:
    first = service.submit(headers={"Idempotency-Key": "k-1"}, case_id="a")
    again = service.submit(headers={"Idempotency-Key": "k-1"}, case_id="a")
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json()["id"] == again.json()["id"]
    assert len(list((service.home / "jobs").iterdir())) == 1


@pytest.mark.parametrize("change", [{"image": b"other"}, {"case_id": "b"}, {"radiomics": "full"}])
def test_the_same_key_with_other_content_is_refused(service: Service, change: dict[str, Any]) -> None:
    service.submit(headers={"Idempotency-Key": "k-1"}, case_id="a")
    answer = service.submit(headers={"Idempotency-Key": "k-1"}, **({"case_id": "a"} | change))
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/idempotency-conflict")
    assert len(list((service.home / "jobs").iterdir())) == 1


def test_the_same_key_of_a_removed_job_makes_a_new_one(service: Service) -> None:
    first = service.submit(headers={"Idempotency-Key": "k-1"}).json()
    service.http.delete(f"/features/{first['id']}")
    assert service.submit(headers={"Idempotency-Key": "k-1"}).json()["id"] != first["id"]


def _finish_next(service: Service, pause_seconds: float) -> None:
    ledger = service.context.ledger
    while not (ids := [job.id for job in ledger.list_jobs("local", limit=1)]):
        time.sleep(0.005)
    time.sleep(pause_seconds)
    service.succeed(ids[0])
