import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from service.errors import StartFailed
from service.up.home import Home, lock_home, open_home


def _silent(_text: str) -> None:
    return


def test_a_new_home_is_readable_by_its_user_alone(tmp_path: Path) -> None:
    home = open_home(tmp_path / "a" / "home")
    for folder in (home.path, home.run, home.logs, home.redis):
        assert folder.stat().st_mode & 0o777 == 0o700


def test_sockets_lie_in_the_home(tmp_path: Path) -> None:
    home = open_home(tmp_path / "home")
    assert home.sockets == home.run
    assert list(home.run.iterdir()) == []


@pytest.mark.parametrize("name", ["d" * 60 + "/" + "e" * 60, "with space", "100%", "a?b", "a#b"])
def test_a_home_too_deep_or_odd_for_sockets_gets_a_short_private_folder(name: str, tmp_path: Path) -> None:
    deep = tmp_path / name
    home = open_home(deep)
    try:
        assert len(os.fsencode(home.redis_socket)) < 90
        assert home.sockets.stat().st_mode & 0o777 == 0o700
        assert open_home(deep).sockets == home.sockets
    finally:
        home.remove_sockets()
    assert not home.sockets.exists()


def test_a_short_folder_open_to_others_is_refused(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    sockets = open_home(deep).sockets
    try:
        sockets.chmod(0o755)
        with pytest.raises(StartFailed, match="not a private folder"):
            open_home(deep)
    finally:
        shutil.rmtree(sockets)


def test_a_home_that_cannot_be_created_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartFailed, match="RADFUSE_HOME"):
        open_home(tmp_path / "file" / "home")


def test_a_second_lock_on_a_home_is_refused_with_the_holder(tmp_path: Path) -> None:
    home = open_home(tmp_path)
    with lock_home(home, _silent), pytest.raises(StartFailed, match=f"process {os.getpid()}"):
        lock_home(home, _silent)
    lock_home(home, _silent).close()


def test_what_a_killed_holder_left_running_is_waited_for(tmp_path: Path) -> None:
    home = open_home(tmp_path)
    told: list[str] = []
    _leave_lock_behind(home, seconds=1.0)
    lock_home(home, told.append).close()
    assert len(told) == 1
    assert "still shutting down" in told[0]


def _leave_lock_behind(home: Home, seconds: float) -> None:
    """Lock in a process that ends at once, handing the lock to a child that stays for a while."""
    program = f"""
import pathlib, subprocess
from service.up.home import Home, lock_home
file = lock_home(Home(pathlib.Path({str(home.path)!r}), pathlib.Path({str(home.sockets)!r})), print)
subprocess.Popen(["sleep", "{seconds}"], stdin=file)
"""
    subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)
