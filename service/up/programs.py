"""What runs in an installation, in which order, and the configuration of supervisord for it."""

import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from service.up import leash
from service.up.home import Home

LOG_BYTES = 10 * 1024**2
LOG_BACKUPS = 5
# A process that dies sooner than this after its start is started again with a growing delay.
START_SECONDS = 5
START_RETRIES = 10


@dataclass(frozen=True)
class Program:
    """One supervised process.

    Args:
        name: its name in messages and logs.
        command: what to run.
        rank: started in ascending, stopped in descending order.
        stop_seconds: how long it may take to stop after TERM before it is killed.
    """

    name: str
    command: tuple[str, ...]
    rank: int
    stop_seconds: int


def service_programs() -> tuple[Program, ...]:
    """Return the service's own processes; the API, first to stop, is last to start."""
    return (
        Program("worker", _module("service.worker"), rank=20, stop_seconds=30),
        Program("dispatcher", _module("service.dispatcher"), rank=30, stop_seconds=10),
        Program("api", _module("service.api"), rank=40, stop_seconds=15),
    )


def redis_program(server: Path, home: Home) -> Program:
    """Return the embedded Redis: one private Unix socket, no port, every write kept within a second.

    It is only the broker. `noeviction` keeps it from dropping messages when memory runs out.
    """
    options = {
        "port": "0",
        "unixsocket": str(home.redis_socket),
        "unixsocketperm": "700",
        "dir": str(home.redis),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "maxmemory-policy": "noeviction",
        "save": "",
        "daemonize": "no",
    }
    arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
    return Program("redis", (str(server), *arguments), rank=10, stop_seconds=10)


def _module(name: str) -> tuple[str, ...]:
    return (sys.executable, "-m", name)


def supervisord_configuration(programs: Sequence[Program], home: Home) -> str:
    """Return the text of supervisord's configuration file.

    supervisord runs in the home's `run` folder. Paths inside the home are written relative to it, since some
    of them could not be quoted. Settings and secrets go through the environment, never through this file.
    """
    return "\n\n".join([_own_sections(home), *map(_program_section, programs)]) + "\n"


def _own_sections(home: Home) -> str:
    socket_path = (
        os.path.relpath(home.supervisor_socket, home.run) if home.sockets == home.run else home.supervisor_socket
    )
    return f"""; Written by `radfuse up` at every start.
[supervisord]
nodaemon = true
silent = true
nocleanup = true
umask = 077
minprocs = 16
pidfile = supervisord.pid
logfile = ../logs/supervisord.log
logfile_maxbytes = {LOG_BYTES}
logfile_backups = {LOG_BACKUPS}

[unix_http_server]
file = {_escape(str(socket_path))}
chmod = 0700

[supervisorctl]
serverurl = unix://{_escape(str(socket_path))}

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface"""


def _program_section(program: Program) -> str:
    leashed = (sys.executable, "-I", "-S", leash.__file__, *program.command)
    return f"""[program:{program.name}]
command = {" ".join(map(quote, leashed))}
priority = {program.rank}
autorestart = true
startsecs = {START_SECONDS}
startretries = {START_RETRIES}
stopwaitsecs = {program.stop_seconds}
killasgroup = true
redirect_stderr = true
stdout_logfile = ../logs/{program.name}.log
stdout_logfile_maxbytes = {LOG_BYTES}
stdout_logfile_backups = {LOG_BACKUPS}"""


def quote(argument: str) -> str:
    """Quote one argument of a command in supervisord's configuration.

    Three readers follow each other: the INI parser (` ;` and ` #` begin a comment), the `%` expansion and
    `shlex.split`.
    """
    quoted = shlex.quote(argument)
    for mark in "#;":
        quoted = quoted.replace(mark, f"'\"{mark}\"'")
    return _escape(quoted)


def _escape(value: str) -> str:
    return value.replace("%", "%%")
