"""What every request handler works with, made once when the application starts."""

from dataclasses import dataclass
from typing import Annotated

import redis
from celery import Celery
from fastapi import Depends, Request

from service import broker
from service.api.catalogue import Catalogue
from service.api.changes import Changes
from service.api.endings import Endings
from service.api.estimate import Estimator
from service.api.keyring import KeyRing
from service.api.metrics import Metrics
from service.api.sent import Sent
from service.api.waiting import Waiters
from service.config import Settings
from service.ledger import Ledger
from service.storage import Storage


@dataclass(frozen=True)
class Context:
    """The service behind the routes."""

    settings: Settings
    ledger: Ledger
    storage: Storage
    catalogue: Catalogue
    keys: KeyRing
    metrics: Metrics
    broker: redis.Redis
    queue: Celery
    endings: Endings
    waiters: Waiters
    changes: Changes
    estimator: Estimator
    sent: Sent


def open_context(settings: Settings) -> Context:
    """Open the ledger (migrated to this version's schema) and the storage."""
    settings.home.mkdir(parents=True, exist_ok=True)
    ledger = Ledger(settings.ledger_url)
    ledger.upgrade()
    endings = Endings(settings.broker_url)
    return Context(
        settings=settings,
        ledger=ledger,
        storage=Storage(settings.home),
        catalogue=Catalogue(settings.models),
        keys=KeyRing(ledger),
        metrics=Metrics(ledger),
        broker=broker.connect(settings.broker_url),
        queue=broker.create_app(settings),
        endings=endings,
        waiters=Waiters(endings),
        changes=Changes(ledger, endings, settings.max_streams),
        estimator=Estimator(ledger, settings.alive_seconds),
        sent=Sent(ledger),
    )


def close_context(context: Context) -> None:
    """Close what `open_context` opened."""
    context.broker.close()
    context.ledger.dispose()


async def find_context(request: Request) -> Context:
    """Return the application's context."""
    context: Context = request.app.state.context
    return context


ContextOf = Annotated[Context, Depends(find_context)]
