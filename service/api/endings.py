"""News of ended jobs, by way of the broker: those who wait for one need not keep asking the ledger.

A hint and nothing more. News that is missed - the broker was away, the job ended otherwise than by its worker - costs
the waiting request a moment, for it looks at the ledger every now and then all the same.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from anyio import Event, move_on_after, sleep
from redis.asyncio import Redis

from service import log
from service.broker import ENDED, BrokerDown, plain_url

RETRY_SECONDS = 1.0
_logger = log.logger("api")


class Watch:
    """One request's eye on one job."""

    def __init__(self) -> None:
        self._event = Event()

    def ring(self) -> None:
        """Wake the request."""
        self._event.set()

    async def wait(self, seconds: float | None) -> None:
        """Return at the next news, or after `seconds` where they are given."""
        with move_on_after(seconds):
            await self._event.wait()
        if self._event.is_set():
            self._event = Event()


class Endings:
    """Everyone who waits, by job."""

    def __init__(self, broker_url: str) -> None:
        self._url = plain_url(broker_url)
        self._watches: dict[str, list[Watch]] = {}
        self.listening = False

    @contextmanager
    def watch(self, job_id: str, watch: Watch | None = None) -> Iterator[Watch]:
        """Be told of a job's end while the context lasts; one watch may be given for many jobs."""
        watch = watch or Watch()
        self._watches.setdefault(job_id, []).append(watch)
        try:
            yield watch
        finally:
            self._watches[job_id].remove(watch)
            if not self._watches[job_id]:
                del self._watches[job_id]

    async def listen(self) -> None:
        """Pass news on until cancelled; reconnects for as long as that takes."""
        while True:
            try:
                await self._listen_once()
            except BrokerDown as error:
                if self.listening:
                    _logger.warning("outage", stage="listen", error=type(error).__name__)
            finally:
                self.listening = False
            await sleep(RETRY_SECONDS)

    async def _listen_once(self) -> None:
        client = Redis.from_url(self._url, decode_responses=True)
        try:
            async with client.pubsub() as news:
                await news.subscribe(ENDED)
                self.listening = True
                async for message in news.listen():
                    for watch in self._watches.get(str(message["data"]), []):
                        watch.ring()
        finally:
            await client.aclose()
