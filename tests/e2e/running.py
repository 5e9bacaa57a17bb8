"""`radfuse up` as a user runs it: a process of its own, seen through its output, its exit and its processes."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from service.config import PREFIX
from service.up.supervisor import session_members

PATIENCE_SECONDS = 90


def until(condition: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def environment(**settings: object) -> dict[str, str]:
    """This environment without any setting of Radfuse, and then the given ones."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    return kept | {PREFIX + name.upper(): str(value) for name, value in settings.items()}


def radfuse(*arguments: object, **settings: object) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    command = [sys.executable, "-m", "service.cli", *map(str, arguments)]
    return subprocess.run(
        command, env=environment(**settings), capture_output=True, text=True, check=False, timeout=120
    )


class Running:
    """A `radfuse up` that was started; its output goes to a file."""

    def __init__(self, home: Path, models: Path, **settings: object) -> None:
        self.home = home
        self.output = home.parent / f"{home.name}.out"
        given = environment(home=home, models=models, **({"port": 0, "workers": 1} | settings))
        with self.output.open("w") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "service.cli", "up"], env=given, stdout=out, stderr=subprocess.STDOUT
            )

    def until_ready(self) -> str:
        """Wait until it says that it is ready; returns the address."""
        until(lambda: "is ready" in self.text() or self.process.poll() is not None)
        found = re.search(r"address\s+(http://\S+)", self.text())
        assert found, self.text()
        return found[1]

    def text(self) -> str:
        """What it has printed."""
        return self.output.read_text()

    @property
    def supervisord(self) -> int:
        """The process id of supervisord."""
        return int((self.home / "run" / "supervisord.pid").read_text())

    def members(self) -> list[int]:
        """Every process below it."""
        return session_members(self.supervisord)

    def find(self, word: str) -> int:
        """The process started as `word`, such as `service.api`."""
        candidates = []
        for process in self.members():
            command = Path(f"/proc/{process}/cmdline").read_bytes().decode().split("\0")
            if any(word in part for part in command):
                candidates.append(process)
        assert candidates, f"no process {word}"
        return min(candidates)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; returns the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(timeout=PATIENCE_SECONDS)


def is_ready(url: str) -> bool:
    """Whether `/readyz` is content."""
    try:
        return httpx.get(f"{url}/readyz", trust_env=False).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False
