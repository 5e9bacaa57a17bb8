"""supervisord as a child process: start it, ask it, stop it, and leave nothing behind."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import IO, Any
from xmlrpc.client import Fault, dumps, loads

from service.up.home import Home
from service.up.leash import die_with

CONFIGURATION = "supervisord.conf"
POLL_SECONDS = 0.05
ANSWER_SECONDS = 5.0


@dataclass(frozen=True)
class Process:
    """What supervisord says of one process.

    Args:
        name: its name.
        pid: 0 while it does not run.
        state: supervisord's word: STARTING, RUNNING, BACKOFF, STOPPING, EXITED, FATAL ...
        exit_status: of the last time it ended; 0 where a signal ended it or it ended soon after its start.
        ended_at: when it last ended, in seconds since 1970; 0 if never.
    """

    name: str
    pid: int
    state: str
    exit_status: int
    ended_at: int


class Supervisor:
    """supervisord and, through it, all processes of an installation."""

    def __init__(self, home: Home, configuration: str, environment: Mapping[str, str], lock: IO[str]) -> None:
        self._home = home
        self._configuration = configuration
        self._environment = dict(environment)
        self._lock = lock
        self._daemon: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Write the configuration and start supervisord in a session of its own.

        The session keeps the terminal's Ctrl-C from it and is how what it started is found again. The lock
        file is its standard input: supervisord closes other files that it inherits.
        """
        (self._home.run / CONFIGURATION).write_text(self._configuration)
        self._home.redis_socket.unlink(missing_ok=True)
        self._home.supervisor_socket.unlink(missing_ok=True)
        with (self._home.logs / "supervisord.log").open("ab") as log:
            self._daemon = subprocess.Popen(  # noqa: S603  # a command of our own
                [sys.executable, "-m", "supervisor.supervisord", "-c", CONFIGURATION],
                cwd=self._home.run,
                env=self._environment,
                stdin=self._lock,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=partial(die_with, os.getpid(), signal.SIGTERM),  # noqa: PLW1509  # only the main thread runs, and it calls prctl alone
            )

    @property
    def running(self) -> bool:
        """Whether supervisord itself runs."""
        return self._daemon is not None and self._daemon.poll() is None

    def processes(self) -> list[Process]:
        """Return the state of every process; nothing while supervisord does not answer, or stops."""
        try:
            found = self._ask("supervisor.getAllProcessInfo")
        except (OSError, HTTPException, Fault):
            return []
        return [
            Process(str(i["name"]), int(i["pid"]), str(i["statename"]), max(0, int(i["exitstatus"])), int(i["stop"]))
            for i in found
        ]

    def revive(self, name: str) -> None:
        """Start a process that supervisord has given up on."""
        try:
            self._ask("supervisor.startProcess", name, False)
        except (OSError, HTTPException, Fault):
            return  # it, or supervisord, changed state meanwhile: the next look sees that

    def terminate(self) -> None:
        """Ask supervisord to stop all in order; `running` becomes false when that is done."""
        if self._daemon is not None and self.running:
            self._daemon.terminate()

    def members(self) -> list[int]:
        """Return the ids of supervisord and of everything in its session."""
        return session_members(self._daemon.pid) if self._daemon else []

    def kill(self) -> None:
        """Kill supervisord and all that is left in its session, and wait until that is gone."""
        if self._daemon is None:
            return
        if self.running:
            self._daemon.kill()
            self._daemon.wait()
        while left := self.members():
            for process in left:
                _kill(process)
            time.sleep(POLL_SECONDS)

    def _ask(self, method: str, *arguments: str | bool) -> Any:
        """Call a method of supervisord's XML-RPC interface.

        References:
            Supervisor 4.3 documentation, "XML-RPC API Documentation".
        """
        connection = _SocketConnection(self._home.supervisor_socket)
        try:
            connection.request("POST", "/RPC2", dumps(arguments, method), {"Content-Type": "text/xml"})
            (value,), _ = loads(connection.getresponse().read())
        finally:
            connection.close()
        return value


class _SocketConnection(HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("supervisord", timeout=ANSWER_SECONDS)
        self._path = path

    def connect(self) -> None:
        """Connect; a socket that cannot be connected is closed."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _kill(process: int) -> None:
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        return


def session_members(session: int) -> list[int]:
    """Return the live processes (not the dead ones yet to be waited for) of a session.

    References:
        Linux manual, proc_pid_stat(5): field 3 state, field 6 session; field 2 may hold any character.
    """
    members = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            continue  # it ended while we looked
        if int(fields[3]) == session and fields[0] not in "ZX":
            members.append(int(path.parent.name))
    return members
