"""The clients' documents are true, and a cohort survives a restart of the service."""

import re
from pathlib import Path

import pytest

from service.client import Client
from service.config import BUILT_IN_MODELS, Settings
from service.job import JobState
from service.ledger import Ledger
from tests.bundle_builder import write_bundle
from tests.cli.cohort_files import read_rows, read_until, run, start, write_case, write_table
from tests.e2e.running import Running
from tests.serving import free_port

REPOSITORY = Path(__file__).resolve().parents[2]


def test_the_examples_of_the_readme_and_of_the_clients_page_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    running = Running(tmp_path / "home", BUILT_IN_MODELS)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").symlink_to(BUILT_IN_MODELS)
    try:
        url = running.until_ready()
        for page, count in ((REPOSITORY / "README.md", 1), (REPOSITORY / "docs" / "client.md", 3)):
            blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
            assert len(blocks) == count
            for block in blocks:
                code = block.replace("http://127.0.0.1:8080", url).replace("Client()", f'Client("{url}")')
                exec(compile(code, str(page), "exec"), {"__name__": page.stem})
    finally:
        running.stop()
    printed = capsys.readouterr().out.splitlines()
    assert float(printed[0].partition(" ")[0]) > 0
    assert printed[1] == printed[0]
    assert printed[2].startswith("unknown-roi")
    assert printed[3] == "6"
    assert read_rows(tmp_path / "cohort.csv")[0]["case_id"] == "p1"


def test_a_cohort_goes_on_when_the_service_restarts_and_equals_what_is_computed_locally(tmp_path: Path) -> None:
    models = tmp_path / "models"
    write_bundle(models)
    rows = [write_case(tmp_path, f"c{n}", n) | {"case_id": f"p{n}", "site": "north"} for n in range(12)]
    table = write_table(tmp_path, [*rows, rows[0] | {"Image": "absent.nii"}])
    settings = {"port": free_port()}
    options = ("--radiomics", "full")  # slow enough to be interrupted
    first = Running(tmp_path / "home", models, **settings)
    try:
        url = first.until_ready()
        with start(tmp_path, table, "-o", "there.csv", "--url", url, "--jobs", 2, *options) as command:
            read_until(command, "2 of 13 cases")
            first.stop()
            assert _succeeded(tmp_path / "home") < 12
            second = Running(tmp_path / "home", models, **settings)
            try:
                second.until_ready()
                out, err = command.communicate(timeout=100)
                with Client(url) as client:
                    (cohort,) = client.cohorts()
            finally:
                second.stop()
    finally:
        first.stop()
    assert command.returncode == 3, out + err
    assert "12 of 13 cases done, 1 failed" in out
    assert cohort["counts"]["succeeded"] == 12
    status, said = run(tmp_path, table, "-o", "here.csv", "--local", *options, models=models, home=tmp_path / "home")
    assert status == 3, said
    there, here = read_rows(tmp_path / "there.csv"), read_rows(tmp_path / "here.csv")
    assert all(row.pop("job_id") for row in there[:12])
    assert [{**row, "job_id": ""} for row in there] == here


def _succeeded(home: Path) -> int:
    """Jobs that have succeeded, by the ledger."""
    ledger = Ledger(Settings(home=home).ledger_url)
    try:
        return sum(job.state is JobState.SUCCEEDED for job in ledger.list_jobs("local", limit=100))
    finally:
        ledger.dispose()
