"""What is refused at the door: status, type, the field's name, and nothing left behind."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.serving import Service, form, make_settings, serving


def assert_refused(answer: httpx.Response, status: int, slug: str, field: str | None = None) -> dict[str, Any]:
    problem: dict[str, Any] = answer.json()
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert (answer.status_code, problem["status"], problem["type"]) == (status, status, f"/problems/{slug}")
    assert problem["title"]
    assert problem["detail"]
    if field is not None:
        assert problem["field"] == field
    return problem


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"image": None}, "image"),
        ({"mask": None}, "mask"),
        ({"image": b""}, "image"),
        ({"mask": b""}, "mask"),
        ({"mask": [b"1", b"2"]}, "mask"),
        ({"image": "path/of/a/file"}, "image"),
        ({"image__ct": b"both"}, "image"),
        ({"image__pet": b"x"}, "image.pet"),
        ({"image": None, "image__t1ce": b"x", "model": "small-mr"}, "image.flair"),
        ({"image": None, "image__flair": b"x", "model": "small-ct"}, "image.flair"),
        ({"model": "small-mr"}, "image.t1ce"),
        ({"image": None, "image__t1ce": b"x"}, "model"),
        ({"model": "other"}, "model"),
        ({"model": "small-ct@9.9.9"}, "model"),
        ({"model": "small-ct@"}, "model"),
        ({"model": ""}, "model"),
        ({"model": ["small-ct", "small-ct"]}, "model"),
        ({"model": b"small-ct"}, "model"),
        ({"radiomics": "everything"}, "radiomics"),
        ({"radiomics": ["full", b"imageType: {}"]}, "radiomics"),
        ({"radiomics": b"imageType: {Original: {}}\nsetting: {binWitdh: 5}"}, "radiomics.setting.binWitdh"),
        ({"radiomics": b"{"}, "radiomics"),
        ({"radiomics": b"\xff\xfe"}, "radiomics"),
        ({"case_id": ""}, "case_id"),
        ({"case_id": "x" * 129}, "case_id"),
        ({"case_id": "line\nbreak"}, "case_id"),
        ({"roi": "\x00"}, "roi"),
        ({"resample_mask": "perhaps"}, "resample_mask"),
        ({"radiomics_axes": "sideways"}, "radiomics_axes"),
        ({"webhook": "https://example.org/"}, "webhook"),
        ({"colour": "red"}, "colour"),
        ({"Image": b"x"}, "Image"),
    ],
)
def test_a_wrong_form_names_its_field(shared: Service, fields: dict[str, Any], field: str) -> None:
    before = len(shared.files())
    assert_refused(shared.submit(**fields), 422, "invalid-field", field)
    assert len(shared.files()) == before


def test_an_unknown_model_names_those_there_are(shared: Service) -> None:
    assert shared.submit(model="x").json()["known"] == ["small-ct@1.0.0", "small-mr@2.1.0"]


@pytest.mark.parametrize("key", ["", "k" * 256, "tab\there", "\u00fc".encode("latin-1").decode("latin-1")])
def test_a_wrong_idempotency_key_is_named(shared: Service, key: str) -> None:
    headers = {"Idempotency-Key": key.encode("latin-1")}
    answer = shared.http.post("/features", files=form(), headers=headers)
    assert_refused(answer, 422, "invalid-field", "Idempotency-Key")


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b"{}"),
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=", b"x"),
        ("multipart/form-data; boundary=" + "b" * 71, b"x"),
        ("multipart/mixed; boundary=b", b"x"),
    ],
)
def test_another_media_type_is_415(shared: Service, content_type: str, body: bytes) -> None:
    answer = shared.http.post("/features", content=body, headers={"Content-Type": content_type})
    assert_refused(answer, 415, "unsupported-media")


def test_a_compressed_body_is_415(shared: Service) -> None:
    headers = {"Content-Encoding": "gzip", "Content-Type": "multipart/form-data; boundary=b"}
    assert_refused(shared.http.post("/features", content=b"x", headers=headers), 415, "unsupported-media")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no boundary at all",
        b"--b\r\n",
        b'--b\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\ncut short',
        b"--b\r\nContent-Type: text/plain\r\n\r\nx\r\n--b--\r\n",
        b"--b\r\nContent-Disposition: attachment\r\n\r\nx\r\n--b--\r\n",
        b"--b\r\nbroken header\r\n\r\nx\r\n--b--\r\n",
        b"--b\r\n" + b"X: y\r\n" * 9 + b"\r\nx\r\n--b--\r\n",
        b"--b\r\nX: " + b"y" * 5000 + b"\r\n\r\nx\r\n--b--\r\n",
    ],
)
def test_malformed_multipart_is_400(shared: Service, body: bytes) -> None:
    before = len(shared.files())
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    assert_refused(shared.http.post("/features", content=body, headers=headers), 400, "bad-request")
    assert len(shared.files()) == before


@pytest.fixture(scope="module")
def tight(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Any:
    values = {"max_upload_bytes": 300_000, "max_files": 3, "max_queued": 1}
    with serving(make_settings(tmp_path_factory.mktemp("tight"), models, **values)) as running:
        yield running


def test_an_announced_body_over_the_limit_is_413(tight: Service) -> None:
    assert_refused(tight.submit(image=b"x" * 400_000), 413, "too-large")


def test_an_unannounced_body_over_the_limit_is_413(tight: Service) -> None:
    head = b'--b\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n'
    chunks = (chunk for chunk in [head, *[b"x" * 100_000] * 4])
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    problem = assert_refused(tight.http.post("/features", content=chunks, headers=headers), 413, "too-large")
    assert problem["max_bytes"] == 300_000
    assert not tight.files()


def test_too_many_files_are_413(tight: Service) -> None:
    problem = assert_refused(tight.submit(image=[b"x"] * 4), 413, "too-large", "image")
    assert problem["max_files"] == 3


def test_a_text_field_over_64_kib_is_413(shared: Service) -> None:
    assert_refused(shared.submit(case_id="x" * 70_000), 413, "too-large", "case_id")
    assert_refused(shared.submit(radiomics=b"#" * 70_000), 413, "too-large", "radiomics")


def test_a_full_queue_is_429_with_retry_after(tight: Service) -> None:
    job = tight.accepted()
    answer = tight.submit()
    assert_refused(answer, 429, "queue-full")
    assert int(answer.headers["Retry-After"]) > 0
    tight.succeed(job["id"])
    assert tight.submit().status_code == 202


def test_a_full_disk_is_507_with_retry_after(tmp_path: Path, models: Path) -> None:
    with serving(make_settings(tmp_path / "home", models, min_free_bytes=2**62)) as service:
        answer = service.submit()
        assert_refused(answer, 507, "disk-full")
        assert int(answer.headers["Retry-After"]) > 0
        assert not service.files()


@pytest.mark.parametrize(
    "path", ["/nothing", "/features/unknown", "/features/..%2f..%2fetc", "/models/x", "/models/x/card", "/problems/x"]
)
def test_what_is_not_there_is_404(shared: Service, path: str) -> None:
    assert_refused(shared.get(path), 404, "not-found")


def test_a_wrong_method_is_405_and_says_what_is_allowed(shared: Service) -> None:
    answer = shared.http.put("/features")
    assert_refused(answer, 405, "method-not-allowed")
    assert answer.headers["Allow"]


def test_a_ledger_out_of_reach_is_503_with_retry_after(tmp_path: Path, models: Path) -> None:
    with serving(make_settings(tmp_path / "home", models)) as service:
        service.context.ledger.dispose()
        ledger = service.home / "ledger.sqlite3"
        ledger.rename(tmp_path / "away")
        ledger.mkdir()  # SQLite cannot open a folder
        answer = service.get("/features")
        assert_refused(answer, 503, "unavailable")
        assert int(answer.headers["Retry-After"]) > 0
        assert "sqlite" not in answer.text.lower()
        ready = service.get("/readyz").json()
        assert not ready["checks"]["ledger"]["ok"]
