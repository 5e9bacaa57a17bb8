"""Bring the ledger to this release's schema: the second container of `docker compose up`.

PostgreSQL creates its data folder at the first start, which takes a few seconds, and not every compose engine waits
for its health check. So this waits itself, and logs that it does.
"""

import threading

from service import log
from service.config import settings
from service.ledger import Ledger


def main() -> None:
    """Wait for the database, then migrate."""
    values = settings()
    log.configure(values.log_level, "migrate")
    ledger = Ledger(values.ledger_url, pooled=False)
    ledger.upgrade_when_reachable(threading.Event())
    log.logger("migrate").info("ready")


if __name__ == "__main__":
    main()
