"""Bring the ledger to this release's schema, once PostgreSQL answers: the second container of `docker compose up`.

PostgreSQL creates its data folder at the first start, which takes a few seconds; not every compose engine waits for
its health check.
"""

import sys
import time

from sqlalchemy.exc import OperationalError

from service.config import settings
from service.ledger import Ledger

PATIENCE_SECONDS = 120.0
PAUSE_SECONDS = 1.0


def wait_for(ledger: Ledger, patience_seconds: float) -> None:
    """Return when the database answers.

    Raises:
        OperationalError: it still does not, after `patience_seconds`.
    """
    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            return ledger.ping()
        except OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(PAUSE_SECONDS)


def main() -> None:
    """Wait, then migrate."""
    ledger = Ledger(settings().ledger_url)
    try:
        wait_for(ledger, PATIENCE_SECONDS)
        ledger.upgrade()
    finally:
        ledger.dispose()
    sys.stdout.write("the ledger is up to date\n")


if __name__ == "__main__":
    main()
