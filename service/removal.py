"""Removing cohorts that have vanished from their owners' sight: files first, rows after.

Cut off at any point it can be begun again, by whoever comes next: the rows that are left name the files that may be.
"""

from service.ledger import Ledger
from service.storage import Storage

BATCH = 100  # jobs in one transaction: a result may be large, and the ledger's one writer (SQLite) has other work


def remove_doomed(ledger: Ledger, storage: Storage, cohort_id: str | None = None) -> int:
    """Remove every trace of the vanished cohorts, or of one of them; returns how many jobs went."""
    count = 0
    while ids := ledger.list_doomed(BATCH, cohort_id):
        for job_id in ids:
            storage.delete(job_id)
        ledger.erase_jobs(ids)
        count += len(ids)
    ledger.erase_cohorts()
    return count
