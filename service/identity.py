"""A process's name for the ledger, from which another process on the same machine can tell that it is dead.

`host/boot/namespace/pid/start`: the machine's boot, the namespace its process numbers are valid in, and the
process's start time, since numbers are used again.
"""

import os
import socket
from pathlib import Path

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def own_name() -> str:
    """Return this process's name."""
    pid = os.getpid()
    return "/".join([*_place(), str(pid), str(_start_time(pid))])


def is_dead(name: str) -> bool:
    """Whether the named process is certainly gone; False for one whose place cannot be seen from here."""
    *place, pid, start = name.split("/")
    return place == _place() and _start_time(int(pid)) != int(start)


def _place() -> list[str]:
    boot = BOOT_ID.read_text().strip()[:8]
    return [socket.gethostname()[:64], boot, str(Path("/proc/self/ns/pid").stat().st_ino)]


def _start_time(pid: int) -> int:
    """Return the start of a process in clock ticks after boot, or 0 where there is none (proc(5), field 22)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 0 if fields[0] in "ZX" else int(fields[19])
