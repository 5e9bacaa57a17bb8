"""`radfuse extract-cohort` as a process, against the real API; the test takes the worker's place."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from service.job import JobState
from tests.bundle_builder import write_bundle
from tests.cli.cohort_files import read_rows, read_until, run, start, write_case, write_table
from tests.running import wait_until
from tests.serving import Service, make_settings, serving

PATIENCE = 30.0  # seconds
PROBLEM = {"type": "/problems/empty-roi", "title": "Empty", "status": 422, "detail": "no voxel"}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_bundle(folder)
    return folder


@pytest.fixture
def service(tmp_path: Path, models: Path) -> Iterator[Service]:
    with serving(make_settings(tmp_path / "home", models)) as running:
        yield running


def _cases(folder: Path, count: int) -> Path:
    rows = [write_case(folder, f"DOE_JANE_{n}", n) | {"case_id": f"p{n}", "site": "north"} for n in range(count)]
    return write_table(folder, rows)


def _unfinished(service: Service) -> list[str]:
    return [job.id for job in service.context.ledger.list_jobs("local", limit=100) if not job.state.terminal]


def _work(service: Service, over: threading.Event) -> None:
    while not over.is_set():
        for job in reversed(_unfinished(service)):
            service.succeed(job)
        over.wait(0.02)


@contextmanager
def _working(service: Service) -> Iterator[None]:
    """Let every job succeed, as a worker does."""
    over = threading.Event()
    thread = threading.Thread(target=_work, args=(service, over))
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_a_cohort_goes_through_the_service_without_the_names_of_its_files(service: Service, tmp_path: Path) -> None:
    table = _cases(tmp_path, 5)
    url = str(service.http.base_url)
    with _working(service):
        options = ("--resample-mask", "--resample-images", "--reference", "ct", "--suv", "bw")
        (tmp_path / "own.yaml").write_text("setting: {binWidth: 5}")
        status, said = run(
            tmp_path, table, "-o", "out.csv", "--url", url, "--jobs", 2, *options, "--radiomics", "own.yaml"
        )
    assert status == 0, said
    rows = read_rows(tmp_path / "out.csv")
    assert [row["case_id"] for row in rows] == [f"p{n}" for n in range(5)]
    assert [row["Image"] for row in rows] == [f"DOE_JANE_{n}_image.nii" for n in range(5)]
    assert {row["original_firstorder_Mean"] for row in rows} == {"-12.5"}
    assert len({row["job_id"] for row in rows}) == 5
    request = service.context.ledger.find_job(rows[0]["job_id"], "local").request
    assert request is not None
    assert (request.resample_mask, request.reference, request.suv) == (True, "ct", "bw")
    assert request.parameters is not None
    assert request.parameters["setting"]["binWidth"] == 5
    (cohort,) = service.get("/cohorts").json()["items"]
    assert cohort["counts"]["succeeded"] == 5
    assert "DOE" not in service.get(f"/cohorts/{cohort['id']}/items").text


def test_no_more_cases_are_at_the_service_than_asked_for_and_ctrl_c_loses_nothing(
    service: Service, tmp_path: Path
) -> None:
    table = _cases(tmp_path, 10)
    arguments = (table, "-o", "out.csv", "--url", str(service.http.base_url), "--jobs", 3)
    with start(tmp_path, *arguments) as process:
        wait_until(lambda: len(_unfinished(service)) == 3, PATIENCE)
        first, second, third = reversed(_unfinished(service))
        service.succeed(first)
        service.fail(second, PROBLEM)
        read_until(process, "2 of 10 cases, 1 failed")
        wait_until(lambda: len(_unfinished(service)) == 3, PATIENCE)
        waiting = set(_unfinished(service))
        assert third in waiting
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130, out + err
    assert "2 of 10 cases are done and kept" in err
    assert "Traceback" not in err

    with _working(service):
        status, said = run(tmp_path, *arguments)
    assert status == 3, said
    rows = read_rows(tmp_path / "out.csv")
    assert len(rows) == 10
    assert [row["problem"] for row in rows if row["problem"]] == ["empty-roi: no voxel"]
    jobs = service.context.ledger.list_jobs("local", limit=100)
    assert len(jobs) == 10  # what was sent before Ctrl-C was taken up again, not sent anew
    assert waiting <= {job.id for job in jobs if job.state is JobState.SUCCEEDED}
    assert len(service.get("/cohorts").json()["items"]) == 1


def test_a_cohort_that_is_gone_from_the_service_is_made_anew(service: Service, tmp_path: Path) -> None:
    table = _cases(tmp_path, 2)
    arguments = (table, "-o", "out.csv", "--url", str(service.http.base_url), "--jobs", 1)
    with start(tmp_path, *arguments) as process:
        wait_until(lambda: len(_unfinished(service)) == 1, PATIENCE)
        service.succeed(_unfinished(service)[0])
        read_until(process, "1 of 2 cases")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    (cohort,) = service.get("/cohorts").json()["items"]
    assert service.http.delete(f"/cohorts/{cohort['id']}").status_code == 204
    with _working(service):
        status, said = run(tmp_path, *arguments)
    assert status == 0, said
    (another,) = service.get("/cohorts").json()["items"]
    assert another["items"] == 1


def test_a_refused_cohort_ends_the_run_with_its_reason(service: Service, tmp_path: Path) -> None:
    table = _cases(tmp_path, 1)
    status, said = run(tmp_path, table, "-o", "out.csv", "--url", str(service.http.base_url), "--model", "typo")
    assert status == 3, said
    assert "no such model" in said
    assert not (tmp_path / "out.csv").exists()
