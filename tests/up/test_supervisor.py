import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from service.up.home import Home, lock_home, open_home
from service.up.programs import Program, supervisord_configuration
from service.up.supervisor import Supervisor, session_members

PATIENCE_SECONDS = 20


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


SLEEPER = Program("sleeper", _python("import time; time.sleep(600)"), rank=1, stop_seconds=5)
DEAF = Program(
    "deaf", _python("import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"), rank=2, stop_seconds=1
)


def _supervise(home: Home, *programs: Program) -> Supervisor:
    lock = lock_home(home, print)
    supervisor = Supervisor(home, supervisord_configuration(programs, home), os.environ, lock)
    supervisor.start()
    lock.close()
    _until(lambda: all(_pids(supervisor).values()) and len(_pids(supervisor)) == len(programs))
    return supervisor


def _pids(supervisor: Supervisor) -> dict[str, int]:
    return {process.name: process.pid for process in supervisor.processes()}


def _alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = open_home(tmp_path / "a home of 100%")
    yield home
    home.remove_sockets()


@pytest.fixture
def sleeping(home: Home) -> Iterator[Supervisor]:
    supervisor = _supervise(home, SLEEPER)
    yield supervisor
    supervisor.kill()


def test_a_killed_process_is_started_again(sleeping: Supervisor) -> None:
    first = _pids(sleeping)["sleeper"]
    os.kill(first, signal.SIGKILL)
    _until(lambda: _pids(sleeping).get("sleeper", 0) not in (0, first))


def test_terminate_stops_everything(sleeping: Supervisor) -> None:
    pid = _pids(sleeping)["sleeper"]
    sleeping.terminate()
    _until(lambda: not sleeping.running)
    assert not _alive(pid)


def test_a_process_deaf_to_term_is_killed_after_its_time(home: Home) -> None:
    supervisor = _supervise(home, DEAF)
    pid = _pids(supervisor)["deaf"]
    supervisor.terminate()
    _until(lambda: not supervisor.running)
    assert not _alive(pid)


def test_processes_die_with_a_killed_supervisord(home: Home) -> None:
    supervisor = _supervise(home, SLEEPER, DEAF)
    processes = list(_pids(supervisor).values())
    os.kill(int((home.run / "supervisord.pid").read_text()), signal.SIGKILL)
    _until(lambda: not any(map(_alive, processes)))
    supervisor.kill()


def test_kill_ends_also_what_the_processes_started(home: Home) -> None:
    forking = _python("import subprocess, time; subprocess.Popen(['sleep', '600']); time.sleep(600)")
    supervisor = _supervise(home, Program("forking", forking, rank=1, stop_seconds=5))
    session = int((home.run / "supervisord.pid").read_text())
    _until(lambda: len(session_members(session)) == 3)
    supervisor.kill()
    assert session_members(session) == []


def test_supervisord_stops_in_order_when_its_starter_is_killed(home: Home) -> None:
    program = f"""
import os, sys, time
from pathlib import Path
from service.up.home import Home, lock_home
from service.up.programs import Program, supervisord_configuration
from service.up.supervisor import Supervisor
home = Home(Path({str(home.path)!r}), Path({str(home.sockets)!r}))
sleeper = Program("sleeper", (sys.executable, "-c", "import time; time.sleep(600)"), rank=1, stop_seconds=5)
supervisor = Supervisor(home, supervisord_configuration([sleeper], home), os.environ, lock_home(home, print))
supervisor.start()
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", program]) as starter:
        _until(lambda: len(_session(home)) == 2)
        members = _session(home)
        starter.kill()
    _until(lambda: not any(map(_alive, members)))
    lock_home(home, print).close()


def _session(home: Home) -> list[int]:
    path = home.run / "supervisord.pid"
    return session_members(int(path.read_text())) if path.exists() and path.read_text().strip() else []


def test_a_start_after_kill_9_takes_over_stale_sockets_and_ids(home: Home) -> None:
    first = _supervise(home, SLEEPER)
    first.kill()
    assert home.supervisor_socket.exists()
    second = _supervise(home, SLEEPER)
    assert _pids(second)["sleeper"]
    second.kill()
