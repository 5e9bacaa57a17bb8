"""The ledger: every job, result and API key, in SQL. It alone says what has been accepted and how it ended."""

from service.ledger.keys import Keys
from service.ledger.requests import Requests
from service.ledger.rows import ApiKey, Claim, Process, Reconciled
from service.ledger.upkeep import Upkeep
from service.ledger.work import Work, retry_delay

__all__ = ["ApiKey", "Claim", "Ledger", "Process", "Reconciled", "retry_delay"]


class Ledger(Requests, Work, Upkeep, Keys):
    """The ledger, seen by callers (`Requests`, `Keys`), workers (`Work`) and the dispatcher (`Upkeep`)."""
