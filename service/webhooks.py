"""Webhooks: callers are told of the end of their jobs, signed by Standard Webhooks, until they have heard.

The ledger says what is due. Every target of the operator's list has a lane of its own, so that a receiver that is slow
or down delays nobody else's news. A message says which job ended and how, and nothing of the case.

References:
    Standard Webhooks 1.0 (standardwebhooks.com): headers, signatures, the schedule of tries, 410.
"""

import json
import ssl
import threading
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from http import HTTPStatus
from importlib.metadata import version
from typing import Final

import anyio
import httpx
from anyio import CancelScope, create_task_group, fail_after, get_cancelled_exc_class, sleep, to_thread
from sqlalchemy.exc import SQLAlchemyError
from standardwebhooks import Webhook

from service import log
from service.config import Settings
from service.ledger import Delivery, Ledger
from service.webhook_target import WebhookTarget

# Between the tries, in seconds: eight tries within 28 hours.
DELAYS_SECONDS: Final = (5.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0, 36_000.0)
ANSWER_SECONDS: Final = 15.0
HOLD_SECONDS: Final = 30.0  # longer than a try takes; after it, who took a delivery is thought dead
POLL_SECONDS: Final = 0.5
OUTAGE_SECONDS: Final = 2.0
SUCCESS: Final = range(200, 300)
GONE: Final = HTTPStatus.GONE
_logger = log.logger("webhooks")


class Postman:
    """Delivers what is due, until it is told to stop."""

    def __init__(self, values: Settings, ledger: Ledger) -> None:
        self._targets = values.webhook_targets
        self._keys = [Webhook(key) for key in values.webhook_keys]
        self._ledger = ledger

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set; sets it itself should the work end otherwise, for nobody else would notice."""
        try:
            anyio.run(self._serve_all, stop)
        finally:
            stop.set()

    async def _serve_all(self, stop: threading.Event) -> None:
        # The machine's own certificates, and no proxy: the operator's list alone says where a message may go.
        certificates = ssl.create_default_context()
        async with (
            httpx.AsyncClient(verify=certificates, trust_env=False, timeout=ANSWER_SECONDS) as http,
            create_task_group() as lanes,
        ):
            for target in self._targets:
                lanes.start_soon(self._serve, http, target)
            while not stop.is_set():
                await sleep(POLL_SECONDS)
            lanes.cancel_scope.cancel()

    async def _serve(self, http: httpx.AsyncClient, target: WebhookTarget) -> None:
        """Deliver to one target, one message at a time."""
        while True:
            try:
                delivery = await to_thread.run_sync(self._ledger.take_delivery, str(target), HOLD_SECONDS)
                if delivery is None:
                    await sleep(POLL_SECONDS)
                else:
                    await self._deliver(http, delivery)
            except SQLAlchemyError as error:
                _logger.warning("outage", stage="webhooks", error=type(error).__name__)
                await sleep(OUTAGE_SECONDS)

    async def _deliver(self, http: httpx.AsyncClient, delivery: Delivery) -> None:
        """Send one message and note what came of it."""
        began = time.monotonic()
        try:
            status = await self._send(http, delivery)
        except get_cancelled_exc_class():
            # Told to stop in the middle of it: the next dispatcher sends it again, at once.
            with CancelScope(shield=True):
                await to_thread.run_sync(self._ledger.postpone_delivery, delivery, 0.0)
            raise
        facts = {"job_id": delivery.job_id, "attempt": delivery.attempts, "status": status}
        facts["seconds"] = round(time.monotonic() - began, 3)
        if status in SUCCESS:
            await to_thread.run_sync(self._ledger.end_delivery, delivery)
            _logger.info("webhook-delivered", **facts)
        elif status == GONE or delivery.attempts > len(DELAYS_SECONDS):
            await to_thread.run_sync(self._ledger.end_delivery, delivery)
            _logger.error("webhook-given-up", **facts)
        else:
            delay = DELAYS_SECONDS[delivery.attempts - 1]
            await to_thread.run_sync(self._ledger.postpone_delivery, delivery, delay)
            _logger.warning("webhook-failed", **facts, delay_seconds=delay)

    async def _send(self, http: httpx.AsyncClient, delivery: Delivery) -> int:
        """Return the status that the receiver answers with, or 0 where it does not answer in time.

        Nothing else of the answer is read, and no redirect is followed.
        """
        body = write_message(delivery)
        headers = sign_message(self._keys, delivery, body, datetime.now(UTC))
        try:
            with fail_after(ANSWER_SECONDS):
                async with http.stream("POST", delivery.address, content=body, headers=headers) as answer:
                    return answer.status_code
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            _logger.info("webhook-unanswered", job_id=delivery.job_id, error=type(error).__name__)
            return 0


def write_message(delivery: Delivery) -> str:
    """Return the body: which job ended, how and when; equal at every try."""
    data = {"id": delivery.job_id, "status": delivery.status, "links": {"self": f"/features/{delivery.job_id}"}}
    ended = delivery.ended_at.isoformat().replace("+00:00", "Z")
    message = {"type": f"features.{delivery.status}", "timestamp": ended, "data": data}
    return json.dumps(message, separators=(",", ":"))


def sign_message(keys: Iterable[Webhook], delivery: Delivery, body: str, sent_at: datetime) -> dict[str, str]:
    """Return the headers of a message, with a signature by every key."""
    name = f"msg_{delivery.job_id}"
    return {
        "webhook-id": name,
        "webhook-timestamp": str(int(sent_at.timestamp())),
        "webhook-signature": " ".join(key.sign(name, sent_at, body) for key in keys),
        "content-type": "application/json",
        "connection": "close",
        "user-agent": f"Radfuse/{version('radfuse')}",
    }
