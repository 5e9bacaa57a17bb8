from pathlib import Path

import pytest

from service.up.supervisor import Process
from service.up.watch import LogFollower, Watch, last_lines


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def watch(tmp_path: Path, told: list[str]) -> Watch:
    return Watch(tmp_path, told.append)


def _worker(pid: int, ended_at: int = 0, exit_status: int = 0) -> Process:
    return Process("worker", pid, "RUNNING" if pid else "BACKOFF", exit_status, ended_at)


def test_a_quiet_installation_is_not_talked_about(watch: Watch, told: list[str]) -> None:
    for _ in range(3):
        watch.look([_worker(10)])
    assert told == []


def test_a_death_and_the_return_are_told_once(watch: Watch, told: list[str]) -> None:
    watch.look([_worker(10)])
    watch.look([_worker(0, ended_at=100, exit_status=3)])
    watch.look([_worker(0, ended_at=100, exit_status=3)])
    watch.look([_worker(11, ended_at=100)])
    watch.look([_worker(11, ended_at=100)])
    assert told == [
        "worker stopped unexpectedly with exit status 3; it will be started again.",
        "worker runs again.",
    ]


def test_a_death_between_two_looks_is_told(watch: Watch, told: list[str]) -> None:
    watch.look([_worker(10)])
    watch.look([_worker(11, ended_at=100)])
    assert told == ["worker stopped unexpectedly; it was started again."]


def test_a_process_that_dies_at_once_is_told_although_it_was_never_seen_alive(watch: Watch, told: list[str]) -> None:
    watch.look([_worker(0, ended_at=100)])
    assert len(told) == 1


def test_a_crash_loop_is_told_loudly_with_the_end_of_the_log(watch: Watch, told: list[str], tmp_path: Path) -> None:
    (tmp_path / "worker.log").write_text("".join(f"line {n}\n" for n in range(100)))
    for second in range(1, 6):
        watch.look([_worker(0, ended_at=second)])
    assert watch.looping("worker")
    assert not watch.looping("api")
    loud = [text for text in told if "KEEPS STOPPING" in text]
    assert len(loud) == 1
    assert sum("line 99" in text for text in told) == 1
    assert not any("line 80" in text for text in told)


def test_the_last_lines_of_a_huge_log_are_found_without_reading_it_all(tmp_path: Path) -> None:
    log = tmp_path / "api.log"
    log.write_text("x" * 100_000 + "\nlast but one\nlast\n")
    assert last_lines(log, 2) == ["last but one", "last"]
    assert last_lines(tmp_path / "absent.log") == []


def test_logs_are_followed_through_rotation_line_by_line(tmp_path: Path, told: list[str]) -> None:
    log = tmp_path / "api.log"
    log.write_text("old\n")
    follower = LogFollower(tmp_path, told.append)
    with log.open("a") as file:
        file.write("one\ntwo\nhal")
    follower.look()
    with log.open("a") as file:
        file.write("f\n")
    follower.look()
    log.rename(tmp_path / "api.log.1")
    log.write_text("new\n")
    follower.look()
    assert [line.split(" | ")[1] for line in told] == ["one", "two", "half", "new"]
