"""A cohort of 10,000 cases: it pages, and its table is made and sent, in bounded memory."""

import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from service.job import JobRequest, JobState, Upload
from service.ledger import Ledger
from service.ledger.tables import jobs, results
from tests.serving import Process, process, result_document

ITEMS = 10_000
FEATURES = {f"deep_{number:04d}": number + 1 / 3 for number in range(120)}
GROWTH_BYTES = 16 * 1024**2
ROW_BYTES = 1_700  # of each row, at least


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Iterator[tuple[Process, str]]:
    home = tmp_path_factory.mktemp("large") / "home"
    with process(home, models) as running:
        cohort = announce(running, ITEMS)
        fill(home, cohort, ITEMS)
        small = announce(running, 30)
        fill(home, small, 30)
        # What any table needs, and what the first one loads, is no growth.
        for accept in ("text/csv", "application/vnd.apache.parquet"):
            assert running.http.get(f"/cohorts/{small}/results", headers={"Accept": accept}).status_code == 200
        yield running, cohort


def announce(running: Process, count: int) -> str:
    rows = "".join(f"image {number},mask {number},site {number}\n" for number in range(1, count + 1))
    answer = running.http.post(
        "/cohorts?model=small-ct", content=f"Image,Mask,site\n{rows}", headers={"Content-Type": "text/csv"}
    )
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def fill(home: Path, cohort: str, count: int) -> None:
    """Give every item but each tenth a result, as if the workers had been there."""
    document = result_document()
    document["rois"][0]["features"] = FEATURES
    request = JobRequest(
        model="small-ct@1.0.0",
        files=(Upload(role="image", channel="ct", file="image", bytes=1, sha256="0" * 64),),
    ).model_dump_json()
    ids = {number: uuid.uuid4().hex for number in range(1, count + 1)}
    ledger = Ledger(f"sqlite:///{home / 'ledger.sqlite3'}")
    ended = {"owner": "local", "request": request, "attempt": 1, "version": 3, "sends": 1, "not_before": 0}
    ended |= {"taken_until": 0, "created_at": 1.8e9, "started_at": 1.8e9, "finished_at": 1.8e9, "cohort_id": cohort}
    failed = {"state": JobState.FAILED, "problem": '{"type": "/problems/empty-roi", "detail": "no voxel"}'}
    rows = [
        {**ended, "id": job_id, "item": number, "state": JobState.SUCCEEDED, "problem": None}
        | (failed if number % 10 == 0 else {})
        for number, job_id in ids.items()
    ]
    with ledger.write() as (connection, _):
        connection.execute(sa.insert(jobs), rows)
        kept = [{"job_id": job_id, "document": json.dumps(document)} for number, job_id in ids.items() if number % 10]
        connection.execute(sa.insert(results), kept)
    ledger.dispose()


def test_ten_thousand_rows_are_sent_in_bounded_memory(large: tuple[Process, str]) -> None:
    running, cohort = large
    before, received, sites, problems = running.peak_bytes(), 0, [], 0
    with running.http.stream("GET", f"/cohorts/{cohort}/results") as answer:
        lines = answer.iter_lines()
        header = next(lines).split(",")
        site, problem = header.index("site"), header.index("problem")
        for line in lines:
            received += len(line)
            cells = line.split(",", problem + 1)
            sites.append(cells[site])
            problems += cells[problem] == "empty-roi: no voxel"
    assert sites == [f"site {number}" for number in range(1, ITEMS + 1)]
    assert problems == ITEMS // 10
    assert received > ITEMS * ROW_BYTES
    assert running.peak_bytes() - before < GROWTH_BYTES < received


def test_ten_thousand_items_page(large: tuple[Process, str]) -> None:
    running, cohort = large
    before, path, seen = running.peak_bytes(), f"/cohorts/{cohort}/items?limit=1000", 0
    while path:
        answer = running.http.get(path)
        seen += len(answer.json()["items"])
        path = answer.links.get("next", {}).get("url", "")
    assert seen == ITEMS
    assert running.peak_bytes() - before < GROWTH_BYTES
    counts = running.http.get(f"/cohorts/{cohort}").json()["counts"]
    assert (counts["succeeded"], counts["failed"]) == (9_000, 1_000)


def test_parquet_is_sent_row_group_by_row_group(large: tuple[Process, str]) -> None:
    running, cohort = large
    before, received = running.peak_bytes(), 0
    with running.http.stream(
        "GET", f"/cohorts/{cohort}/results", headers={"Accept": "application/vnd.apache.parquet"}
    ) as answer:
        for block in answer.iter_bytes():
            received += len(block)
    assert received > 0
    # A row group of half a million cells, as Python's numbers and as Arrow's, is what it takes.
    assert running.peak_bytes() - before < 3 * GROWTH_BYTES
