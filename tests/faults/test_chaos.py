"""A small run of the chaos test; `python -m tests.faults.run_chaos` is the large one."""

from pathlib import Path

from tests.faults.chaos import Chaos


def test_no_accepted_job_is_lost_whatever_is_killed(tmp_path: Path) -> None:
    outcome = Chaos(tmp_path, seed=1, RADFUSE_REQUEUE_SECONDS="5").run(jobs=10, faults=5, seconds=150)

    assert outcome.wrong == [], outcome.table()
    assert outcome.states == {"succeeded": 10}
    assert outcome.faults["flush"] == 1
