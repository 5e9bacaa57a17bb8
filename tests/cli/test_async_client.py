"""`AsyncClient`, and the cohort calls of both clients, against the real API; the test takes the worker's place."""

import inspect
import threading
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from service.client import AsyncClient, Client, FeatureVectorResult, Options, Patience, Submission
from service.errors import Refused, ServiceUnreachable
from tests.bundle_builder import write_bundle
from tests.cli.test_client import _serve
from tests.serving import Service, make_settings, serving

PROBLEM = {"type": "/problems/empty-roi", "title": "Empty", "status": 422, "detail": "no voxel"}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    write_bundle(tmp_path / "models")
    with serving(make_settings(tmp_path / "home", tmp_path / "models")) as running:
        yield running


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    (tmp_path / "DOE^JANE image.nii").write_bytes(b"i" * 70_000)
    (tmp_path / "DOE^JANE mask.nii").write_bytes(b"m" * 10)
    return tmp_path / "DOE^JANE image.nii", tmp_path / "DOE^JANE mask.nii"


def _public(kind: type) -> dict[str, list[str]]:
    methods = inspect.getmembers(kind, lambda member: inspect.isfunction(member) or inspect.isasyncgenfunction(member))
    return {name: list(inspect.signature(of).parameters) for name, of in methods if not name.startswith("_")}


def test_both_clients_offer_the_same() -> None:
    assert _public(AsyncClient) == _public(Client)


def test_cases_started_together_take_their_turns_and_each_gets_its_own_end(
    service: Service, files: tuple[Path, Path]
) -> None:
    most = 0
    ends: dict[int, object] = {}
    over = threading.Event()

    def work() -> None:
        nonlocal most
        while not over.is_set():
            jobs = [job for job in service.context.ledger.list_jobs("local", limit=50) if not job.state.terminal]
            most = max(most, len(jobs))
            if len(jobs) == 2 or len(ends) == 6:
                for job in jobs:
                    service.fail(job.id, PROBLEM) if job.case_id == "case-3" else service.succeed(job.id)
            over.wait(0.01)

    async def extract(client: AsyncClient, number: int) -> None:
        try:
            ends[number] = await client.extract(*files, case_id=f"case-{number}")
        except Refused as error:
            ends[number] = error

    async def extract_all() -> None:
        async with AsyncClient(str(service.http.base_url), at_once=2) as client, anyio.create_task_group() as group:
            for number in range(6):
                group.start_soon(extract, client, number)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        anyio.run(extract_all)
    finally:
        over.set()
        thread.join()
    assert most == 2
    results = {number: end for number, end in ends.items() if isinstance(end, FeatureVectorResult)}
    assert {number: result.case_id for number, result in results.items()} == {
        number: f"case-{number}" for number in (0, 1, 2, 4, 5)
    }
    refused = ends[3]
    assert isinstance(refused, Refused)
    assert refused.kind == "empty-roi"


def test_a_server_error_is_tried_again_with_the_same_key_and_the_same_files(files: tuple[Path, Path]) -> None:
    async def submit(url: str) -> str:
        async with AsyncClient(url) as client:
            document = await client.submit(Submission.of(*files))
            return str(document["id"])

    with _serve(503, 202) as door:
        assert anyio.run(submit, door.url) == "1"
    (first, sent), (second, again) = door.requests
    assert first["Idempotency-Key"] == second["Idempotency-Key"]
    assert len(sent) == len(again) > 70_010
    assert b"DOE" not in sent
    assert b"i" * 70_000 in again


def test_patience_for_room_waits_while_the_queue_is_full(files: tuple[Path, Path]) -> None:
    async def submit(url: str) -> None:
        async with AsyncClient(url, patience=Patience(for_room=True)) as client:
            await client.submit(Submission.of(*files))

    with _serve(429, 429, 202) as door:
        anyio.run(submit, door.url)
    assert len(door.requests) == 3


def test_patience_ends() -> None:
    async def list_models(url: str) -> None:
        async with AsyncClient(url, patience=Patience(seconds=0.2)) as client:
            await client.models()

    with _serve() as door:
        url = door.url
    with pytest.raises(ServiceUnreachable, match=url):
        anyio.run(list_models, url)


def test_a_cohort_is_made_sent_followed_saved_and_removed(
    service: Service, files: tuple[Path, Path], tmp_path: Path
) -> None:
    with Client(str(service.http.base_url)) as client:
        cohort = client.create_cohort(
            [{"image": "a", "mask": "b", "case_id": "p1"}, {"image": "c", "mask": "d", "extra": {"site": "north"}}]
        )["id"]
        item = client.submit_item(cohort, 1, *files)
        assert client.submit_item(cohort, 1, *files)["job"] == item["job"]
        assert [each["item"] for each in client.cohort_items(cohort, "awaiting-files")] == [2]
        service.succeed(item["job"])
        assert client.wait(item["job"])["case_id"] == "p1"
        assert client.cohort(cohort)["counts"]["succeeded"] == 1
        client.save_cohort_results(cohort, tmp_path / "results.csv")
        assert (tmp_path / "results.csv").read_text().startswith("case_id,")
        client.save_cohort_results(cohort, tmp_path / "results.parquet")
        assert (tmp_path / "results.parquet").read_bytes().startswith(b"PAR1")
        second = client.submit_item(cohort, 2, *files)
        client.cancel_cohort(cohort)
        with pytest.raises(Refused, match="cancelled"):
            client.wait(second["job"])
        client.delete_cohort(cohort)
        with pytest.raises(Refused) as refused:
            client.cohort(cohort)
    assert refused.value.status == 404


def test_a_cohort_may_be_a_table_and_is_paged_through(service: Service, tmp_path: Path) -> None:
    (tmp_path / "cases.csv").write_text("Image,Mask,site\n" + "".join(f"i{n},m{n},s{n}\n" for n in range(1500)))

    async def items() -> list[int]:
        async with AsyncClient(str(service.http.base_url)) as client:
            cohort = await client.create_cohort(tmp_path / "cases.csv", **Options(model="small-ct", resample_mask=True))
            return [item["item"] for item in await client.cohort_items(cohort["id"])]

    assert anyio.run(items) == list(range(1, 1501))


def test_results_have_two_formats(tmp_path: Path) -> None:
    with Client() as client, pytest.raises(ValueError, match=r"\.csv or \.parquet"):
        client.save_cohort_results("1", tmp_path / "results.xlsx")
