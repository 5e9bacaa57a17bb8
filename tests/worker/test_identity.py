"""A process's name tells whether it is dead, and never claims so of one it cannot see."""

import subprocess
import sys

from service.identity import is_dead, own_name

TELL = "from service.identity import own_name; print(own_name(), flush=True); input()"


def test_a_process_is_dead_once_it_has_ended() -> None:
    with subprocess.Popen([sys.executable, "-c", TELL], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        name = other.stdout.readline().decode().strip()
        assert name != own_name()
        assert not is_dead(name)
        other.kill()
        other.wait()
        assert is_dead(name)
    assert not is_dead(own_name())


def test_a_number_used_again_is_another_process() -> None:
    *place, pid, start = own_name().split("/")

    assert is_dead("/".join([*place, pid, str(int(start) + 1)]))


def test_nothing_is_said_of_another_machine() -> None:
    host, *rest = own_name().split("/")

    assert not is_dead("/".join([host + "x", *rest[:-1], "1"]))
