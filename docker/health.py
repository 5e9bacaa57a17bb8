"""Health check of a container: `python health.py worker` succeeds if its process has lately reported to the ledger.

A worker reports from its main process, which no case can hold up.
"""

import socket
import sys

from service.config import settings
from service.ledger import Ledger

MISSED_BEATS = 4
LEAST_SECONDS = 15.0


def is_alive(kind: str) -> bool:
    """Whether a process of this kind, on this host, has reported within the last beats."""
    values = settings()
    ledger = Ledger(values.ledger_url, pooled=False)
    alive = ledger.list_processes(max(LEAST_SECONDS, MISSED_BEATS * values.heartbeat_seconds))
    own_host = socket.gethostname()[:64]
    return any(process.kind == kind and process.name.partition("/")[0] == own_host for process in alive)


if __name__ == "__main__":
    sys.exit(0 if is_alive(sys.argv[1]) else f"no {sys.argv[1]} on this host has reported to the ledger")
