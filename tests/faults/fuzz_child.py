"""A worker's child without its parent: `python -m tests.faults.fuzz_child` takes a job's id a line and runs the job.

It is set up and runs jobs by the worker's own functions, under the worker's memory limit; nothing catches it when it
falls. It answers each line with the seconds that the job took and the bytes that were resident at most beyond before.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

from service import log
from service.config import settings
from service.worker import child
from service.worker.memory import forbid_core_dumps


def main() -> None:
    """Run jobs until the input ends."""
    log.configure(settings().log_level, "fuzz-child")
    forbid_core_dumps()
    child.prepare("fuzz-child", threads=1)
    tell("ready")
    for line in sys.stdin:
        before, began = reset_peak(), time.perf_counter()
        child.run(line.strip())
        tell({"seconds": time.perf_counter() - began, "grown_bytes": max(0, read_status("VmHWM") - before)})


def tell(answer: Any) -> None:
    """Write a line of JSON."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def reset_peak() -> int:
    """Begin a new peak and return what is resident now (`clear_refs`, proc(5))."""
    Path("/proc/self/clear_refs").write_text("5")
    return read_status("VmRSS")


def read_status(name: str) -> int:
    """Return a size of this process in bytes (`status`, proc(5))."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


if __name__ == "__main__":
    main()
