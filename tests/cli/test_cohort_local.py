import os
import signal
from pathlib import Path

import psutil
import pytest

from service.cohort.journal import Journal
from tests.bundle_builder import write_bundle
from tests.cli.cohort_files import read_rows, read_until, run, start, write_case, write_table


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_bundle(tmp_path / "models")
    return tmp_path


def _run(folder: Path, *arguments: object) -> tuple[int, str]:
    return run(folder, *arguments, "--local", models=folder / "models", home=folder / "home")


def test_a_cohort_becomes_a_table_in_its_order_and_only_what_is_new_or_changed_is_computed(folder: Path) -> None:
    rows = [write_case(folder, f"c{n}", n) | {"Label": "", "case_id": f"p{n}", "site": f"s{n % 2}"} for n in range(4)]
    absent = {**rows[0], "Image": "absent.nii", "case_id": "p8"}
    wrong = {**rows[1], "Label": "9", "case_id": "p9"}
    table = write_table(folder, [rows[3], absent, rows[0], wrong, rows[1]])
    status, said = _run(folder, table, "-o", "out.csv", "--jobs", 2)
    assert status == 3, said
    assert "3 of 5 cases done, 2 failed" in said
    assert "unknown-roi" in said
    assert "Traceback" not in said
    found = read_rows(folder / "out.csv")
    assert [row["case_id"] for row in found] == ["p3", "p8", "p0", "p9", "p1"]
    assert [row["site"] for row in found] == ["s1", "s0", "s0", "s1", "s1"]
    assert [row["problem"].partition(":")[0] for row in found] == ["", "file-missing", "", "unknown-roi", ""]
    assert all(float(row["original_firstorder_Mean"]) for row in (found[0], found[2], found[4]))

    before = _outcomes(folder / "out.csv.journal")
    write_case(folder, "c0", 7)
    write_table(folder, [rows[0] | {"case_id": "q0"}, rows[1] | {"case_id": "q1"}, rows[2]])
    status, said = _run(folder, table, "-o", "out.csv")
    assert status == 0, said
    assert "2 of 3" in said  # one was known: c1
    changed = read_rows(folder / "out.csv")
    assert [row["case_id"] for row in changed] == ["q0", "q1", "p2"]
    assert changed[1]["original_firstorder_Mean"] == found[4]["original_firstorder_Mean"]
    assert changed[0]["original_firstorder_Mean"] != found[2]["original_firstorder_Mean"]
    assert before.items() <= _outcomes(folder / "out.csv.journal").items()


def test_ctrl_c_keeps_what_is_done_and_the_same_command_goes_on(folder: Path) -> None:
    rows = [write_case(folder, f"c{n}", n) for n in range(5)]
    stuck = folder / rows[3]["Image"]
    whole = stuck.read_bytes()
    stuck.unlink()
    os.mkfifo(stuck)  # whoever reads it waits for ever
    table = write_table(folder, rows)
    settings = {"models": folder / "models", "home": folder / "home"}
    with start(folder, table, "-o", "out.csv", "--local", "--jobs", 1, **settings) as process:
        read_until(process, "3 of 5 cases")
        helpers = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130, out + err
    assert "3 of 5 cases are done and kept in out.csv.journal" in err
    assert "Traceback" not in err
    assert not (folder / "out.csv").exists()
    psutil.wait_procs(helpers, timeout=10)
    assert not [helper for helper in helpers if helper.is_running()]

    kept = _outcomes(folder / "out.csv.journal")
    assert len(kept) == 3
    stuck.unlink()
    stuck.write_bytes(whole)
    status, said = _run(folder, table, "-o", "out.csv")
    assert status == 0, said
    assert len(read_rows(folder / "out.csv")) == 5
    assert kept.items() <= _outcomes(folder / "out.csv.journal").items()


def test_a_case_that_brings_its_process_down_is_one_failure_among_others(folder: Path) -> None:
    rows = [write_case(folder, f"c{n}", n) for n in range(3)]
    stuck = folder / rows[1]["Image"]
    stuck.unlink()
    os.mkfifo(stuck)
    table = write_table(folder, rows)
    settings = {"models": folder / "models", "home": folder / "home"}
    with start(folder, table, "-o", "out.csv", "--local", "--jobs", 1, **settings) as process:
        read_until(process, "1 of 3 cases")
        (helper,) = [
            child for child in psutil.Process(process.pid).children() if "spawn_main" in " ".join(child.cmdline())
        ]
        helper.kill()
        out, err = process.communicate(timeout=60)
    assert process.returncode == 3, out + err
    problems = [row["problem"] for row in read_rows(folder / "out.csv")]
    assert [problem.partition(":")[0] for problem in problems] == ["", "worker-lost", ""]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("cases.csv", "-o", "out.xlsx"), ".csv or .parquet"),
        (("absent.csv", "-o", "out.csv"), "absent.csv"),
        (("cases.csv", "-o", "out.csv", "--reference", "t1"), "needs --resample-images"),
        (("cases.csv", "-o", "out.csv", "--suv", "lbm"), "bw"),
    ],
)
def test_wrong_usage_is_plain(arguments: tuple[str, ...], reason: str, folder: Path) -> None:
    write_table(folder, [write_case(folder, "c0")])
    status, said = _run(folder, *arguments)
    assert status == 2, said
    assert reason in said
    assert "Traceback" not in said


def _outcomes(path: Path) -> dict[str, object]:
    with Journal(path) as journal:
        return {fingerprint: journal.find(fingerprint) for fingerprint in journal.known(failures=True)}
