"""A child's memory limit.

RLIMIT_DATA counts what a process writes to privately (heap, anonymous maps) and not what it merely reserves, as
RLIMIT_AS does: allocator arenas and CUDA reserve far more than they use.

References:
    Linux manual, getrlimit(2), RLIMIT_DATA (anonymous maps since Linux 4.7).
"""

import resource
from pathlib import Path


def limit_growth(more_bytes: int) -> None:
    """Let this process grow by so many bytes from where it is; beyond, allocations fail."""
    _set(_data_bytes() + more_bytes)


def lift_limit() -> None:
    """Let it grow again, so that what failed for want of memory can be reported."""
    _set(resource.getrlimit(resource.RLIMIT_DATA)[1])


def forbid_core_dumps() -> None:
    """Have this process and its children leave no core file: it would hold the images."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _set(soft: int) -> None:
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(resource.RLIMIT_DATA, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


def _data_bytes() -> int:
    """Return what counts towards RLIMIT_DATA now (`VmData` of proc(5), in KiB)."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmData:"))
    return int(line.split()[1]) * 1024
