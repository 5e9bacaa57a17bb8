"""The ways in which a case may come: several regions, options, DICOM objects in one body, series on a server."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from service.dicomweb_server import parse_servers
from service.job import JobRequest
from tests.serving import Service, make_settings, serving

STUDY, SERIES, INSTANCE = "1.2.3", "1.2.3.4", "1.2.3.4.5"
IMAGE_SERIES = f"archive/{STUDY}/{SERIES}"
SERVERS = "archive=https://reader:s3cret@pacs.example:8443/dicom-web other=http://127.0.0.1:8042/dicom-web/"
BOUNDARY = "part-of-the-case"


@pytest.fixture(scope="module")
def linked(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Iterator[Service]:
    """A service whose operator allows two DICOMweb servers."""
    with serving(make_settings(tmp_path_factory.mktemp("linked"), models, dicomweb_servers=SERVERS)) as running:
        yield running


def request_of(service: Service, job_id: str) -> JobRequest:
    request = service.context.ledger.find_job(job_id, "local").request
    assert request is not None
    return request


def related(
    service: Service, parts: list[bytes], kind: str = "application/dicom", media: str = "", **options: Any
) -> httpx.Response:
    """POST DICOM parts as STOW-RS does."""
    head = f"--{BOUNDARY}\r\nContent-Type: {kind}\r\n\r\n".encode()
    body = b"".join(head + part + b"\r\n" for part in parts) + f"--{BOUNDARY}--\r\n".encode()
    content_type = media or f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'
    query = urlencode(options, doseq=True)
    return service.http.post(f"/features?{query}", content=body, headers={"Content-Type": content_type})


def assert_refused(answer: httpx.Response, status: int, slug: str, field: str | None = None) -> dict[str, Any]:
    assert (answer.status_code, answer.json()["type"]) == (status, f"/problems/{slug}"), answer.text
    assert answer.json().get("field") == field
    return dict(answer.json())


@pytest.mark.parametrize(
    ("roi", "expected"),
    [(None, ()), ("1", ("1",)), ("1,3", ("1,3",)), (["GTV, left", "2"], ("GTV, left", "2")), ("whole", ("whole",))],
)
def test_regions_reach_the_job_as_they_were_asked_for(shared: Service, roi: Any, expected: tuple[str, ...]) -> None:
    assert request_of(shared, shared.accepted(roi=roi)["id"]).roi == expected


def test_regions_of_jobs_stored_before_several_could_be_asked_for_are_read() -> None:
    assert JobRequest.model_validate({"model": "a@1.0.0", "files": [], "roi": "1"}).roi == ("1",)
    assert JobRequest.model_validate({"model": "a@1.0.0", "files": [], "roi": None}).roi == ()


@pytest.mark.parametrize("roi", ["", "1\n2", "x" * 5000, ["1"] * 257])
def test_regions_that_are_no_text_or_too_many_are_refused(shared: Service, roi: Any) -> None:
    assert_refused(shared.submit(roi=roi), 422, "invalid-field", "roi")


def test_other_content_of_the_list_is_another_request(service: Service) -> None:
    first = service.submit(headers={"Idempotency-Key": "k"}, roi=["1", "2"])
    assert service.submit(headers={"Idempotency-Key": "k"}, roi=["1", "2"]).json()["id"] == first.json()["id"]
    assert_refused(service.submit(headers={"Idempotency-Key": "k"}, roi=["2", "1"]), 422, "idempotency-conflict")


def test_channels_are_resampled_only_where_asked_for_and_onto_a_named_one(shared: Service) -> None:
    channels = {"image": None, "image__flair": b"f", "image__t1ce": b"t"}
    assert request_of(shared, shared.accepted(**channels)["id"]).reference is None
    asked = {"resample_images": "true"}
    assert request_of(shared, shared.accepted(**channels, **asked)["id"]).reference == "t1ce"
    assert request_of(shared, shared.accepted(**channels, **asked, reference="flair")["id"]).reference == "flair"
    for wrong in ({**asked, "reference": "ct"}, {"reference": "flair"}):
        assert_refused(shared.submit(**channels, **wrong), 422, "invalid-field", "reference")


def test_suv_is_by_body_weight_or_refused(shared: Service) -> None:
    assert request_of(shared, shared.accepted(suv="bw")["id"]).suv == "bw"
    assert_refused(shared.submit(suv="lbm"), 422, "invalid-field", "suv")


def test_dicom_parts_are_stored_unsorted_with_the_options_of_the_address(shared: Service) -> None:
    answer = related(shared, [b"a", b"b", b"c"], roi=["GTV", "2"], model="small-ct", case_id="case-7", suv="bw")
    assert answer.status_code == 202, answer.text
    request = request_of(shared, answer.json()["id"])
    paths = shared.context.storage.paths(answer.json()["id"], request)
    assert [path.read_bytes() for path in paths.values()] == [b"a", b"b", b"c"]
    assert {(upload.role, upload.channel) for upload in request.files} == {("unsorted", "ct")}
    assert (request.roi, request.suv, answer.json()["case_id"]) == (("GTV", "2"), "bw", "case-7")


def test_dicom_parts_cannot_name_channels(shared: Service) -> None:
    assert_refused(related(shared, [b"a"], model="small-mr"), 422, "invalid-field", "image.t1ce")


@pytest.mark.parametrize(
    ("kind", "media", "status"),
    [
        ("application/json", "", 415),
        ("application/dicom", f'multipart/related; type="application/dicom+json"; boundary={BOUNDARY}', 415),
        ("application/dicom", 'multipart/related; type="application/dicom"', 415),
        ("application/dicom", f"multipart/mixed; boundary={BOUNDARY}", 415),
    ],
)
def test_other_bodies_are_refused(shared: Service, kind: str, media: str, status: int) -> None:
    assert_refused(related(shared, [b"a"], kind, media), status, "unsupported-media")


def test_an_empty_related_body_is_refused(shared: Service) -> None:
    assert related(shared, []).status_code in (400, 422)
    assert related(shared, [b""]).status_code == 422


def test_unknown_doubled_and_misplaced_options_are_refused(shared: Service) -> None:
    assert_refused(related(shared, [b"a"], colour="red"), 422, "invalid-field", "colour")
    assert_refused(related(shared, [b"a"], model=["small-ct", "small-ct"]), 422, "invalid-field", "model")
    assert_refused(related(shared, [b"a"], image_series=IMAGE_SERIES), 422, "invalid-field", "image_series")
    answer = shared.http.post("/features?roi=1", files={"image": ("i", b"i"), "mask": ("m", b"m")})
    assert_refused(answer, 422, "invalid-field", "roi")


def test_a_series_on_a_server_stands_for_its_files(linked: Service) -> None:
    job = linked.accepted(image=None, mask=None, image_series=IMAGE_SERIES, mask_series=f"other/1.5/1.6/{INSTANCE}")
    request = request_of(linked, job["id"])
    assert request.files == ()
    assert [(one.role, one.channel, one.server, one.series, one.instance) for one in request.remote] == [
        ("image", "ct", "archive", SERIES, None),
        ("mask", None, "other", "1.6", INSTANCE),
    ]


def test_files_and_series_may_be_mixed_but_not_for_one_thing(linked: Service) -> None:
    request = request_of(linked, linked.accepted(image=None, image_series=IMAGE_SERIES)["id"])
    assert [upload.role for upload in request.files] == ["mask"]
    assert_refused(linked.submit(image_series=IMAGE_SERIES), 422, "invalid-field", "image")
    assert_refused(linked.submit(mask_series=IMAGE_SERIES), 422, "invalid-field", "mask")
    channels = {"image": None, "image__flair": b"f"}
    request = request_of(linked, linked.accepted(**channels, image_series__t1ce=IMAGE_SERIES)["id"])
    assert (request.model, request.remote[0].channel) == ("small-mr@2.1.0", "t1ce")


@pytest.mark.parametrize(
    "named",
    [
        "archive",
        f"archive/{STUDY}",
        f"archive/{STUDY}/{SERIES}/{INSTANCE}",
        f"archive/{STUDY}/{SERIES}/..",
        f"archive/{STUDY}/../admin",
        f"archive/{'1.' * 40}1/{SERIES}",
        f"archive/{STUDY}/DOE^JANE",
        "https://pacs.example/dicom-web/studies/1.2.3/series/1.2.3.4",
        f"unknown/{STUDY}/{SERIES}",
    ],
)
def test_what_is_no_series_on_a_known_server_is_refused_and_not_repeated(linked: Service, named: str) -> None:
    problem = assert_refused(linked.submit(image=None, image_series=named), 422, "invalid-field", "image_series")
    assert "DOE" not in problem["detail"]
    assert "pacs.example" not in str(problem)


def test_without_servers_nothing_can_be_named(shared: Service) -> None:
    problem = assert_refused(shared.submit(image=None, image_series=IMAGE_SERIES), 422, "invalid-field", "image_series")
    assert problem["known"] == []


def test_the_list_of_servers_keeps_its_passwords_to_itself() -> None:
    archive, other = parse_servers(SERVERS)
    assert (archive.url, archive.user, archive.password) == ("https://pacs.example:8443/dicom-web", "reader", "s3cret")
    assert (other.url, other.user) == ("http://127.0.0.1:8042/dicom-web", "")
    assert "s3cret" not in f"{archive} {archive!r}"


@pytest.mark.parametrize(
    "text", ["pacs", "pacs=ftp://a/b", "PACS=https://a", "a=https://b a=https://c", "a=https://b?c=s3cret", "=http://a"]
)
def test_a_wrong_list_of_servers_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(ValueError, match=r"entry [12]") as refusal:
        parse_servers(text)
    assert "s3cret" not in str(refusal.value)
