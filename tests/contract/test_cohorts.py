"""`/cohorts`: the manifest, the files of its items, following, the table of results, removal."""

import csv
import io
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog

from service.api.cohort_views import CohortDocument, CohortPage, ItemDocument, ItemPage
from service.job import JobRequest
from service.removal import remove_doomed
from tests.contract.test_following import PROBLEM
from tests.serving import FEATURES, Service, form, make_settings, serving

MANIFEST = (
    "ID,Image,Mask,Label,case_id,site\r\n"
    'a,"ct, first.nii",m1.nii,1,case-1,A\r\n'
    "b,ct2.nii,m2.nii,,case-2,=B\r\n"
    "c,ct3.nii,m3.nii,GTV 1,,\r\n"
)
NAMES = ("ct, first.nii", "ct2.nii", "m1.nii")


def post_csv(service: Service, text: str = MANIFEST, query: str = "", **headers: str) -> httpx.Response:
    return service.http.post(
        f"/cohorts{query}", content=text.encode(), headers={"Content-Type": "text/csv", **service.headers, **headers}
    )


def post_json(service: Service, document: Any) -> httpx.Response:
    return service.http.post("/cohorts", json=document)


def made(service: Service, text: str = MANIFEST, query: str = "") -> str:
    answer = post_csv(service, text, query)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def send(service: Service, cohort: str, item: int, **fields: Any) -> httpx.Response:
    return service.http.post(f"/cohorts/{cohort}/items/{item}", files=form(**fields), headers=service.headers)


def sent(service: Service, cohort: str, item: int, **fields: Any) -> str:
    answer = send(service, cohort, item, **fields)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["job"])


def items(service: Service, cohort: str, query: str = "") -> list[dict[str, Any]]:
    page = service.get(f"/cohorts/{cohort}/items{query}").json()
    return list(ItemPage.model_validate(page).model_dump()["items"])


def request_of(service: Service, job: str) -> JobRequest:
    request = service.context.ledger.find_job(job, "local").request
    assert request is not None
    return request


def test_a_manifest_in_pyradiomics_format_makes_a_cohort(service: Service) -> None:
    answer = post_csv(service)
    document = CohortDocument.model_validate(answer.json())
    assert (answer.status_code, answer.headers["Location"]) == (201, f"/cohorts/{document.id}")
    assert (document.items, document.status, document.progress) == (3, "awaiting-files", 0)
    assert document.counts["awaiting-files"] == 3
    assert document.model.name == "small-ct"
    first = items(service, document.id)[0]
    assert (first["status"], first["case_id"], first["roi"], first["job"]) == ("awaiting-files", "case-1", "1", None)
    assert list(first["cells"].items()) == [
        ("ID", "a"),
        ("Image", "ct, first.nii"),
        ("Mask", "m1.nii"),
        ("Label", "1"),
        ("case_id", "case-1"),
        ("site", "A"),
    ]


def test_a_manifest_may_come_as_json(service: Service) -> None:
    body = {
        "items": [
            {"image": "ct1", "mask": "m1", "roi": "1", "case_id": "case-1", "extra": {"age": 61, "site": None}},
            {"image": "ct2", "mask": "m2"},
        ],
        "radiomics": "original",
        "resample_mask": True,
    }
    answer = post_json(service, body)
    assert answer.status_code == 201, answer.text
    cohort = answer.json()["id"]
    assert answer.json()["columns"] == ["Image", "Mask", "Label", "case_id", "age", "site"]
    assert [list(item["cells"].values()) for item in items(service, cohort)] == [
        ["ct1", "m1", "1", "case-1", "61", ""],
        ["ct2", "m2", "", "", "", ""],
    ]
    request = request_of(service, sent(service, cohort, 1))
    assert (request.preset, request.resample_mask, request.roi) == ("original", True, ("1",))


def test_a_parameter_file_holds_for_every_item(service: Service) -> None:
    parameters = "imageType:\n  Original: {}\nsetting:\n  binWidth: 10\n"
    body = {"items": [{"image": "a", "mask": "b"}] * 2, "radiomics_parameters": parameters}
    cohort = post_json(service, body).json()["id"]
    for item in (1, 2):
        kept = request_of(service, sent(service, cohort, item)).parameters
        assert kept is not None
        assert kept["setting"]["binWidth"] == 10


def test_channels_are_columns_of_their_own(service: Service) -> None:
    text = "Image.t1ce,Image.flair,Mask\na,b,c\n"
    cohort = made(service, text)
    request = request_of(service, sent(service, cohort, 1, image=None, image__t1ce=b"1", image__flair=b"2"))
    assert request.model == "small-mr@2.1.0"
    by_json = post_json(service, {"items": [{"image": {"t1ce": "a", "flair": "b"}, "mask": "c"}]}).json()
    assert by_json["columns"] == ["Image.t1ce", "Image.flair", "Mask"]


def test_the_options_of_a_csv_manifest_are_query_parameters(service: Service) -> None:
    cohort = made(service, query="?model=small-ct&radiomics=full&radiomics_axes=stored&roi=GTV&resample_mask=true")
    one, two = (request_of(service, sent(service, cohort, item)) for item in (1, 2))
    assert (one.model, one.preset, one.radiomics_axes, one.resample_mask) == ("small-ct@1.0.0", "full", "stored", True)
    assert (one.roi, two.roi) == (("1",), ("GTV",))  # a row's Label goes before


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("", "manifest"),
        ("Image,Mask\r\n", "manifest"),
        ("Image,Label\na,1\n", "manifest"),
        ("image,mask\na,b\n", "manifest"),
        ("Image,Mask,Mask\na,b,c\n", "manifest"),
        ("Image,Image.t1ce,Mask\na,b,c\n", "manifest"),
        ("Image,Mask,\na,b,c\n", "manifest"),
        ("Image,Mask\na\n", "manifest"),
        ('Image,Mask\n"a,b\n', "manifest"),
        ("Image,Mask\nSECRET,\n", "Mask"),
        ("Image,Mask,Label\nSECRET,b,\x07\n", "Label"),
        ("Image,Mask,case_id\nSECRET,b," + "9" * 129 + "\n", "case_id"),
        ("Image,Mask,case_id\nSECRET,b,\x07\n", "case_id"),
        ("Image,Mask,Label_channel\nSECRET,b,1\n", "Label_channel"),
    ],
)
def test_a_wrong_manifest_is_refused_by_place_without_repeating_cells(shared: Service, text: str, field: str) -> None:
    answer = post_csv(shared, text)
    assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert "SECRET" not in answer.text


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("?model=none", "model"),
        ("?model=small-mr", "image.t1ce"),
        ("?radiomics=none", "radiomics"),
        ("?reference=ct", "reference"),
        ("?suv=max", "suv"),
        ("?radiomics_axes=sideways", "radiomics_axes"),
        ("?resample_mask=perhaps", "resample_mask"),
        ("?webhook=http://x", "webhook"),
    ],
)
def test_a_wrong_option_is_refused_with_the_manifest(shared: Service, query: str, field: str) -> None:
    answer = post_csv(shared, query=query)
    assert (answer.status_code, answer.json()["field"]) == (422, field)


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ([], "manifest"),
        ({"items": []}, "manifest"),
        ({"items": [{"image": "SECRET"}]}, "items.0.mask"),
        ({"items": [{"image": "SECRET", "mask": "m", "patient": "SECRET"}]}, "items.0.patient"),
        ({"items": [{"image": "SECRET", "mask": "m", "extra": {"Mask": "x"}}]}, "extra"),
        ({"items": [{"image": {}, "mask": "m"}]}, "manifest"),
        ({"items": [{"image": "a", "mask": "m"}], "radiomics_parameters": "imageType: 3"}, "radiomics.imageType"),
        ({"items": [{"image": "a", "mask": "m"}], "webhook": "x"}, "webhook"),
    ],
)
def test_a_wrong_json_manifest_is_refused_by_place(shared: Service, document: Any, field: str) -> None:
    answer = post_json(shared, document)
    assert (answer.status_code, answer.json()["field"]) == (422, field), answer.text
    assert "SECRET" not in answer.text


def test_manifests_have_limits_and_media_types(tmp_path: Path, models: Path) -> None:
    settings = make_settings(tmp_path / "home", models, max_cohort_items=2, max_manifest_bytes=5000)
    with serving(settings) as service:
        assert post_csv(service, "Image,Mask\n" + "a,b\n" * 2).status_code == 201
        assert post_csv(service, "Image,Mask\n" + "a,b\n" * 3).json()["max_items"] == 2
        assert post_csv(service, "Image,Mask\n" + "a,b\n" * 1300).json()["max_bytes"] == 5000
        assert post_csv(service, **{"Content-Type": "application/xml"}).status_code == 415
        assert post_csv(service, **{"Content-Encoding": "gzip"}).status_code == 415
        assert post_csv(service, "Image,Mask\na," + "b" * 4097 + "\n").status_code == 413
        mixed = service.http.post("/cohorts?model=small-ct", json={"items": []})
        assert (mixed.status_code, mixed.json()["field"]) == (422, "model")


def test_repeating_a_manifest_with_a_key_makes_one_cohort(service: Service) -> None:
    first = post_csv(service, **{"Idempotency-Key": "k"})
    again = post_csv(service, **{"Idempotency-Key": "k"})
    other = post_csv(service, MANIFEST + "d,x,y,,,\n", **{"Idempotency-Key": "k"})
    assert (again.status_code, again.json()["id"]) == (201, first.json()["id"])
    assert (other.status_code, other.json()["type"]) == (422, "/problems/idempotency-conflict")


def test_an_items_files_make_an_ordinary_job(service: Service) -> None:
    cohort = made(service)
    answer = send(service, cohort, 1, image=b"12345")
    document = ItemDocument.model_validate(answer.json())
    assert (answer.status_code, answer.headers["Location"]) == (202, f"/features/{document.job}")
    assert (document.item, document.status, document.case_id) == (1, "queued", "case-1")
    job = service.get(f"/features/{document.job}").json()
    assert (job["status"], job["case_id"], job["model"]["name"]) == ("queued", "case-1", "small-ct")
    assert [upload.bytes for upload in request_of(service, job["id"]).files] == [5, 10]


def test_pictures_of_items_are_drawn_on_demand(service: Service) -> None:
    plain, pictured = made(service), made(service, query="?previews=true")
    without, with_one = sent(service, plain, 1), sent(service, pictured, 1)
    assert [request_of(service, job).preview for job in (without, with_one)] == [False, True]
    service.succeed(without, preview=None)
    began = time.monotonic()
    assert service.get(f"/features/{without}/preview.png").status_code == 404
    assert time.monotonic() - began < 1  # there is nothing to wait for
    service.succeed(with_one)
    assert service.get(f"/features/{with_one}/preview.png").status_code == 200


def test_the_same_files_of_an_item_give_the_same_job_and_others_are_refused(service: Service) -> None:
    cohort = made(service)
    job = sent(service, cohort, 1)
    assert sent(service, cohort, 1) == job
    refused = send(service, cohort, 1, image=b"other")
    assert (refused.status_code, refused.json()["type"]) == (422, "/problems/idempotency-conflict")
    assert [path.name for path in (service.home / "jobs").iterdir()] == [job]


def test_other_files_replace_a_failed_item(service: Service) -> None:
    cohort = made(service)
    failed = sent(service, cohort, 1)
    service.fail(failed, PROBLEM)
    assert items(service, cohort)[0]["problem"]["type"] == PROBLEM["type"]
    job = sent(service, cohort, 1, mask=b"a better mask")
    assert job != failed
    assert service.get(f"/features/{failed}").status_code == 404
    assert [path.name for path in (service.home / "jobs").iterdir()] == [job]


@pytest.mark.parametrize("field", ["model", "roi", "radiomics", "case_id", "resample_mask"])
def test_an_item_has_no_options_of_its_own(service: Service, field: str) -> None:
    answer = send(service, made(service), 1, **{field: "1"})
    assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert not service.files()


@pytest.mark.parametrize(
    ("fields", "field"), [({"mask": None}, "mask"), ({"image": None}, "image"), ({"image__t1ce": b"x"}, "image")]
)
def test_an_items_files_are_checked_as_those_of_a_case(service: Service, fields: dict[str, Any], field: str) -> None:
    answer = send(service, made(service), 1, **fields)
    assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert not service.files()


def test_a_cohorts_queue_has_its_own_limit(tmp_path: Path, models: Path) -> None:
    with serving(make_settings(tmp_path / "home", models, max_queued=1)) as service:
        cohort = made(service)
        sent(service, cohort, 1)
        full = send(service, cohort, 2)
        assert (full.status_code, full.json()["type"]) == (429, "/problems/queue-full")
        assert int(full.headers["Retry-After"]) >= 1
        assert service.submit().status_code == 202  # a single case still finds room
        assert service.submit().status_code == 429


def test_a_single_case_goes_before_a_cohort(service: Service) -> None:
    cohort = made(service)
    waiting = [sent(service, cohort, item) for item in (1, 2, 3)]
    alone = service.accepted()
    assert alone["queue_position"] == 1
    assert [service.get(f"/features/{job}").json()["queue_position"] for job in waiting] == [2, 3, 4]


def test_a_cohort_is_followed_by_its_counts(service: Service) -> None:
    cohort = made(service)
    one, two = sent(service, cohort, 1), sent(service, cohort, 2)
    service.succeed(one)
    service.claim(two)
    answer = service.get(f"/cohorts/{cohort}")
    document = CohortDocument.model_validate(answer.json())
    counts = {status: count for status, count in document.counts.items() if count}
    assert counts == {"awaiting-files": 1, "running": 1, "succeeded": 1}
    assert (document.status, document.progress) == ("running", 1 / 3)
    assert int(answer.headers["Retry-After"]) >= 1
    (page,) = CohortPage.model_validate(service.get("/cohorts").json()).items
    assert page.counts == document.counts


def test_a_cohort_ends_when_all_its_items_have(service: Service) -> None:
    cohort = made(service, "Image,Mask\na,b\nc,d\n")
    service.succeed(sent(service, cohort, 1))
    assert service.get(f"/cohorts/{cohort}").json()["status"] == "awaiting-files"
    service.fail(sent(service, cohort, 2), PROBLEM)
    ended = service.get(f"/cohorts/{cohort}")
    assert (ended.json()["status"], ended.json()["progress"]) == ("ended", 1)
    assert "Retry-After" not in ended.headers


def test_items_are_paged_and_narrowed_to_a_status(service: Service) -> None:
    cohort = made(service, "Image,Mask\n" + "a,b\n" * 5)
    service.succeed(sent(service, cohort, 2))
    sent(service, cohort, 4)
    path, seen = f"/cohorts/{cohort}/items?limit=2&status=awaiting-files", []
    while path:
        answer = service.get(path)
        seen.append([item["item"] for item in answer.json()["items"]])
        path = answer.links.get("next", {}).get("url", "")
    assert seen == [[1, 3], [5]]
    assert [item["item"] for item in items(service, cohort, "?status=queued")] == [4]
    assert [item["item"] for item in items(service, cohort, "?status=succeeded&after=1")] == [2]
    assert [item["item"] for item in items(service, cohort, "?after=3")] == [4, 5]


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/cohorts?limit=0", "limit"),
        ("/cohorts?before=x", "before"),
        ("/cohorts?sort=up", "sort"),
        ("/cohorts/{}/items?limit=1001", "limit"),
        ("/cohorts/{}/items?after=-1", "after"),
        ("/cohorts/{}/items?status=accepted", "status"),
        ("/cohorts/{}/items/x", "item"),
        ("/cohorts/{}/items/0", "item"),
    ],
)
def test_a_wrong_query_names_its_parameter(shared: Service, path: str, field: str) -> None:
    answer = shared.get(path.format(made(shared)))
    assert (answer.status_code, answer.json()["field"]) == (422, field)


def test_results_come_in_the_manifests_order_with_its_columns_and_reasons(service: Service) -> None:
    cohort = made(service)
    second, first = sent(service, cohort, 2), sent(service, cohort, 1)
    service.fail(second, PROBLEM)
    service.succeed(first)
    answer = service.get(f"/cohorts/{cohort}/results")
    assert answer.headers["Content-Type"].startswith("text/csv")
    assert f"cohort-{cohort}.csv" in answer.headers["Content-Disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [(row["case_id"], row["ID"], row["Image"], row["site"], row["problem"]) for row in rows] == [
        ("case-1", "a", "ct, first.nii", "A", ""),
        ("case-2", "b", "ct2.nii", "'=B", "empty-roi: no voxel"),
        ("", "c", "ct3.nii", "", "awaiting-files"),
    ]
    assert [row["job_id"] for row in rows] == [first, second, ""]
    assert [row["original_firstorder_Mean"] for row in rows] == ["-12.5", "", ""]
    assert next(iter(rows[0])) == "case_id"
    assert set(FEATURES) < set(rows[0])


def test_results_come_as_parquet_with_the_same_rows(service: Service) -> None:
    from pyarrow import parquet  # noqa: PLC0415

    cohort = made(service)
    service.succeed(sent(service, cohort, 3))
    answer = service.get(f"/cohorts/{cohort}/results", Accept="application/vnd.apache.parquet")
    assert answer.headers["Content-Type"] == "application/vnd.apache.parquet"
    table = parquet.read_table(io.BytesIO(answer.content))
    text = service.get(f"/cohorts/{cohort}/results", Accept="text/csv").text
    assert table.column_names == next(csv.reader(io.StringIO(text)))
    assert table["ID"].to_pylist() == ["a", "b", "c"]
    assert table["original_firstorder_Mean"].to_pylist() == [None, None, -12.5]


def test_results_of_a_cohort_without_any_have_a_row_for_each_item(service: Service) -> None:
    rows = list(csv.DictReader(io.StringIO(service.get(f"/cohorts/{made(service)}/results").text)))
    assert [row["problem"] for row in rows] == ["awaiting-files"] * 3


def test_no_table_of_another_kind_is_offered(shared: Service) -> None:
    answer = shared.get(f"/cohorts/{made(shared)}/results", Accept="application/json")
    assert answer.status_code == 406


def test_cancelling_stops_what_has_not_ended(service: Service) -> None:
    cohort = made(service)
    done, running = sent(service, cohort, 1), sent(service, cohort, 2)
    service.succeed(done)
    claim = service.claim(running)
    document = service.http.post(f"/cohorts/{cohort}/cancel").json()
    counts = {status: count for status, count in document["counts"].items() if count}
    assert counts == {"succeeded": 1, "cancelled": 1, "awaiting-files": 1}
    assert not service.context.ledger.finish(claim, {"rois": []})
    assert not (service.home / "jobs" / running).exists()
    assert items(service, cohort)[1]["case_id"] == "case-2"
    assert sent(service, cohort, 2) != running  # and goes on when the files come again


def test_removing_a_cohort_leaves_no_trace(service: Service) -> None:
    cohort = made(service)
    for item in (1, 2):
        sent(service, cohort, item)
    service.succeed(items(service, cohort)[0]["job"])
    jobs = [item["job"] for item in items(service, cohort)[:2]]
    assert service.http.delete(f"/cohorts/{cohort}").status_code == 204
    for path in ("", "/items", "/items/1", "/results"):
        assert service.get(f"/cohorts/{cohort}{path}").status_code == 404
    assert [service.get(f"/features/{job}").status_code for job in jobs] == [404, 404]
    assert service.http.delete(f"/cohorts/{cohort}").status_code == 404
    assert not service.files()
    assert b"ct2.nii" not in b"".join(path.read_bytes() for path in service.home.glob("ledger.sqlite3"))


def test_what_an_interrupted_removal_left_is_removed_later(service: Service) -> None:
    cohort = made(service)
    sent(service, cohort, 1)
    ledger = service.context.ledger
    ledger.doom_cohort(cohort, "local")
    assert service.get(f"/cohorts/{cohort}").status_code == 404
    assert service.files()
    assert remove_doomed(ledger, service.context.storage) == 1
    assert not service.files()


def test_nothing_of_a_cohort_is_shown_to_another_key(tmp_path: Path, models: Path) -> None:
    with serving(make_settings(tmp_path / "home", models)) as service:
        keys = [service.context.ledger.create_key(name, ["submit", "read"], None)[1] for name in ("one", "two")]
        service.headers["Authorization"] = f"Bearer {keys[0]}"
        cohort = made(service)
        sent(service, cohort, 1)
        service.headers["Authorization"] = f"Bearer {keys[1]}"
        for path in ("", "/items", "/items/1", "/results"):
            assert service.get(f"/cohorts/{cohort}{path}").status_code == 404
        assert service.get("/cohorts").json()["items"] == []
        assert send(service, cohort, 2).status_code == 404
        for method, path in (("DELETE", ""), ("POST", "/cancel")):
            answer = service.http.request(method, f"/cohorts/{cohort}{path}", headers=service.headers)
            assert answer.status_code == 404
        service.headers["Authorization"] = f"Bearer {keys[0]}"
        assert service.get(f"/cohorts/{cohort}").json()["counts"]["queued"] == 1


def test_the_names_in_a_manifest_reach_no_log(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    with structlog.testing.capture_logs() as lines:
        cohort = made(service)
        sent(service, cohort, 1)
        send(service, cohort, 1, image=b"other")
        post_csv(service, "Image,Mask\nct2.nii,\n")
        service.get(f"/cohorts/{cohort}/results")
        service.http.delete(f"/cohorts/{cohort}")
    written = str(lines) + caplog.text
    assert "/cohorts/{cohort_id}/results" in written
    assert not [name for name in NAMES if name in written]
