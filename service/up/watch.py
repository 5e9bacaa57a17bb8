"""What is said on the terminal while an installation runs: what died, and the logs where asked for."""

import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from pathlib import Path

from service.up.supervisor import Process

LOOP_DEATHS = 3
LOOP_SECONDS = 60.0
TAIL_LINES = 15
TAIL_BYTES = 16_384


class Watch:
    """Compares what supervisord says now with what it said before, and tells the difference."""

    def __init__(self, logs: Path, tell: Callable[[str], None]) -> None:
        self._logs = logs
        self._tell = tell
        self._seen: dict[str, Process] = {}
        self._deaths: defaultdict[str, deque[float]] = defaultdict(deque)
        self._tail_told: dict[str, float] = {}

    def look(self, processes: Iterable[Process]) -> None:
        """Report every process that ended, or came back, since the last look."""
        for process in processes:
            before = self._seen.get(process.name)
            if process.ended_at > (before.ended_at if before else 0):
                self._report_death(process)
            elif process.pid and before and not before.pid and before.ended_at:
                self._tell(f"{process.name} runs again.")
            self._seen[process.name] = process

    def forget(self) -> None:
        """Begin anew: all processes were replaced at once."""
        self._seen.clear()

    def looping(self, name: str) -> bool:
        """Whether a process died three times within the last minute."""
        deaths = self._deaths[name]
        while deaths and deaths[0] < time.monotonic() - LOOP_SECONDS:
            deaths.popleft()
        return len(deaths) >= LOOP_DEATHS

    def _report_death(self, process: Process) -> None:
        self._deaths[process.name].append(time.monotonic())
        how = f" with exit status {process.exit_status}" if process.exit_status else ""
        now = "it was started again" if process.pid else "it will be started again"
        self._tell(f"{process.name} stopped unexpectedly{how}; {now}.")
        if self.looping(process.name):
            self._report_loop(process.name)

    def _report_loop(self, name: str) -> None:
        now = time.monotonic()
        if now - self._tail_told.get(name, -LOOP_SECONDS) < LOOP_SECONDS:
            return
        self._tail_told[name] = now
        self._tell(f"{name.upper()} KEEPS STOPPING: {LOOP_DEATHS} times or more in the last minute.")
        self._tell(describe_log(self._logs, name))


def describe_log(logs: Path, name: str) -> str:
    """Return the last lines of a process's log under a heading that names the file."""
    path = logs / f"{name}.log"
    return "\n".join([f"The last lines of {path}:", *(f"  {line}" for line in last_lines(path))])


def last_lines(path: Path, count: int = TAIL_LINES) -> list[str]:
    """Return the last lines of a log; none where it does not exist yet."""
    if not path.exists():
        return []
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL_BYTES))
        return file.read().decode(errors="replace").splitlines()[-count:]


class LogFollower:
    """Shows the logs of all processes as they grow, each line after its process's name."""

    def __init__(self, logs: Path, tell: Callable[[str], None]) -> None:
        self._logs = logs
        self._tell = tell
        self._read_to = {path: (path.stat().st_ino, path.stat().st_size) for path in logs.glob("*.log")}

    def look(self) -> None:
        """Show what was written since the last look; a rotated log begins anew."""
        for path in sorted(self._logs.glob("*.log")):
            inode, offset = self._read_to.get(path, (0, 0))
            with path.open("rb") as file:
                status = path.stat()
                if status.st_ino != inode or status.st_size < offset:
                    offset = 0
                file.seek(offset)
                whole = file.read().rpartition(b"\n")[0]
            self._read_to[path] = (status.st_ino, offset + len(whole) + bool(whole))
            for line in whole.decode(errors="replace").splitlines():
                self._tell(f"{path.stem:>11} | {line}")
