"""The whole compose file, up under a project name of its own, as an operator and as a caller meet it."""

import json
import os
import shlex
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
COMPOSE = shlex.split(os.environ.get("RADFUSE_COMPOSE", "docker compose"))
LONG_RUNNING = ("api", "dispatcher", "worker", "redis", "postgres")
# Sent on through the compose file: lost work is found within seconds rather than a minute.
SHORT_LEASES = {"RADFUSE_LEASE_SECONDS": "10", "RADFUSE_HEARTBEAT_SECONDS": "2", "RADFUSE_REQUEUE_SECONDS": "10"}
UP_SECONDS = 1500
READY_SECONDS = 180
COMMAND_SECONDS = 300


class Stack:
    """A running compose project.

    The command is RADFUSE_COMPOSE (`docker compose`, or a podman-compose); single containers are looked at with
    `docker` or `podman`, whichever that command drives.
    """

    def __init__(self) -> None:
        self.project = f"radfuse-test-{os.getpid()}"
        self.published = f"127.0.0.1:{free_port()}"
        self.url = f"http://{self.published}"
        self._complaints = ""
        self._environment = os.environ | SHORT_LEASES | {"RADFUSE_PUBLISH": self.published}

    def compose(self, *arguments: str, seconds: float = COMMAND_SECONDS) -> None:
        """Run a compose command. Callers look at what it brought about.

        Its exit status is not enough, and with some engines it is too much: a health check that fails while its
        container is still starting can make the whole command fail.
        """
        answer = self._run([*COMPOSE, "-p", self.project, *arguments], seconds)
        self._complaints = answer.stderr[-4000:] if answer.returncode else ""

    def exec(self, service: str, *command: str) -> str:
        """Run a command in the container of a service; returns its standard output."""
        return self._engine("exec", self.container(service), *command)

    def logs(self, service: str) -> str:
        """Return all that the container of a service has written."""
        answer = self._run([engine(), "logs", self.container(service)], COMMAND_SECONDS)
        return answer.stdout + answer.stderr

    def inspect(self, service: str) -> dict[str, Any]:
        """Return what the engine knows of the container of a service."""
        return dict(json.loads(self._engine("inspect", self.container(service)))[0])

    def container(self, service: str) -> str:
        """Return the id of the one container of a service."""
        labels = {"project": self.project, "service": service}
        filters = [f"--filter=label=com.docker.compose.{name}={value}" for name, value in labels.items()]
        (container,) = self._engine("ps", "-aq", *filters).split()
        return container

    def kill(self, service: str) -> None:
        """Kill a container without warning."""
        self._engine("kill", "--signal", "KILL", self.container(service))

    def wait_until_ready(self) -> None:
        """Return when /readyz is content."""
        what = f"/readyz; compose said: {self._complaints}"
        wait_for(lambda: httpx.get(f"{self.url}/readyz", timeout=10).status_code == 200, READY_SECONDS, what)

    def _engine(self, *arguments: str) -> str:
        answer = self._run([engine(), *arguments], COMMAND_SECONDS)
        if answer.returncode:
            pytest.fail(f"{shlex.join(answer.args)} ended with {answer.returncode}:\n{answer.stderr[-4000:]}")
        return answer.stdout

    def _run(self, command: list[str], seconds: float) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=REPOSITORY, env=self._environment, capture_output=True, text=True, timeout=seconds, check=False
        )


class Caller:
    """Somebody with a key."""

    def __init__(self, url: str, key: str) -> None:
        self._client = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=60)

    def __enter__(self) -> "Caller":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def submit(self, files: Mapping[str, Path], **fields: str) -> str:
        """Send a case; returns the job's id once it is accepted."""
        parts = {name: (path.name, path.read_bytes()) for name, path in files.items()}
        answer = self._client.post("/features", files=parts, data=fields)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def job(self, job_id: str) -> dict[str, Any]:
        """Return the job as it is now."""
        answer = self._client.get(f"/features/{job_id}")
        answer.raise_for_status()
        return dict(answer.json())

    def outcome(self, job_id: str, seconds: float) -> dict[str, Any]:
        """Wait for the end of a job."""
        document: dict[str, Any] = {}

        def ended() -> bool:
            document.update(self.job(job_id))
            return document["status"] not in ("queued", "running")

        wait_for(ended, seconds, f"job {job_id}")
        return document


def engine() -> str:
    """Return the command that drives single containers."""
    return "docker" if Path(COMPOSE[0]).name.startswith("docker") else "podman"


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_for(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Return when the condition holds; an API that is being restarted is asked again."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except httpx.HTTPError:
            pass  # the API, or what it stands on, is down on purpose
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: not within {seconds:g} s")
        time.sleep(0.5)


def missing_engine() -> str | None:
    """Say why no container can be started here; None where one can."""
    for command in (COMPOSE[0], engine()):
        if shutil.which(command) is None:
            return f"no container engine: there is no `{command}` (RADFUSE_COMPOSE names the compose command)"
    answer = subprocess.run([engine(), "info"], capture_output=True, text=True, timeout=60, check=False)
    return f"no container engine: `{engine()} info` fails: {answer.stderr.strip()[:200]}" if answer.returncode else None


@contextmanager
def running_stack() -> Iterator[Stack]:
    """Bring the whole file up from nothing, and take everything away again."""
    stack = Stack()
    try:
        stack.compose("up", "-d", "--build", seconds=UP_SECONDS)
        stack.wait_until_ready()
        yield stack
    finally:
        stack.compose("down", "-v")
