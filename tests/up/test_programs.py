import configparser
import shlex
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from supervisor.options import ServerOptions

from service.up.home import Home
from service.up.programs import Program, quote, redis_program, service_programs, supervisord_configuration

ODD_NAMES = ["plain", "with space", "100%", "%(here)s", "a ;b", "a #b", "it's", 'quo"te', "back\\slash", "ü"]


def _read(folder: Path, monkeypatch: pytest.MonkeyPatch, programs: list[Program]) -> ServerOptions:
    """Read our configuration with supervisord's own reader, from the folder it runs in."""
    home = Home(folder, folder / "run")
    home.run.mkdir(parents=True)
    home.logs.mkdir()
    (home.run / "supervisord.conf").write_text(supervisord_configuration(programs, home))
    monkeypatch.chdir(home.run)
    options = ServerOptions()
    options.realize(["-c", "supervisord.conf", "-n"])
    return options


@pytest.mark.parametrize("name", ODD_NAMES)
def test_supervisord_reads_odd_homes_and_arguments_as_they_are(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / name
    program = Program("odd", ("/bin/echo", name, f"--dir={folder}"), rank=1, stop_seconds=1)
    options = _read(folder, monkeypatch, [program])
    (group,) = options.process_group_configs
    (process,) = group.process_configs
    assert shlex.split(process.command)[-3:] == ["/bin/echo", name, f"--dir={folder}"]
    assert Path(process.stdout_logfile).resolve() == folder / "logs" / "odd.log"
    assert options.pidfile == str(folder / "run" / "supervisord.pid")
    assert options.server_configs[0]["file"] == str(folder / "run" / "supervisor.sock")


def test_sockets_outside_the_home_are_named_in_full(tmp_path: Path) -> None:
    home = Home(tmp_path, tmp_path / "100%")
    parser = configparser.RawConfigParser()
    parser.read_string(supervisord_configuration([], home))
    assert parser["unix_http_server"]["file"] == str(tmp_path / "100%%" / "supervisor.sock")


def test_api_stops_first_and_redis_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    redis = redis_program(Path("/usr/bin/redis-server"), Home(tmp_path, tmp_path / "run"))
    options = _read(tmp_path / "home", monkeypatch, [*service_programs(), redis])
    started = [group.name for group in sorted(options.process_group_configs)]
    assert started == ["redis", "worker", "dispatcher", "api"]


def test_redis_has_no_port_and_drops_nothing(tmp_path: Path) -> None:
    command = redis_program(Path("/usr/bin/redis-server"), Home(tmp_path, tmp_path / "run")).command
    given_options = dict(zip(command[1::2], command[2::2], strict=True))
    assert given_options["--port"] == "0"
    assert given_options["--maxmemory-policy"] == "noeviction"
    assert given_options["--appendonly"] == "yes"


@given(st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1))
def test_any_argument_survives_ini_expansion_and_shell_splitting(argument: str) -> None:
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";", "#"), strict=False)
    parser.read_string(f"[program:p]\ncommand = {quote(sys.executable)} {quote(argument)}\n")
    assert shlex.split(parser["program:p"]["command"] % {}) == [sys.executable, argument]
