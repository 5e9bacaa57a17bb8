"""The ledger: every job, result and API key, in SQL. It alone says what has been accepted and how it ended."""

from service.ledger.cohorts import Cohorts
from service.ledger.deliveries import Deliveries, Delivery
from service.ledger.following import Following, Load
from service.ledger.keys import Keys
from service.ledger.requests import Requests
from service.ledger.rows import ApiKey, Claim, Cohort, CohortItem, Process, Reconciled
from service.ledger.upkeep import Upkeep
from service.ledger.work import Work, retry_delay

__all__ = [
    "ApiKey",
    "Claim",
    "Cohort",
    "CohortItem",
    "Delivery",
    "Ledger",
    "Load",
    "Process",
    "Reconciled",
    "retry_delay",
]


class Ledger(Requests, Cohorts, Following, Work, Upkeep, Deliveries, Keys):
    """The ledger.

    It is seen by callers (`Requests`, `Cohorts`, `Following`, `Keys`), by workers (`Work`) and by the dispatcher
    (`Upkeep`, `Deliveries`).
    """
