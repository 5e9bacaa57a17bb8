"""HTTP/1.1 as Uvicorn speaks it, with an end to its patience.

Uvicorn waits for ever for the head of a first request, and goes on reading the body of one that it has already
refused for as long as a byte comes now and then. A few hundred such connections would take all there may be.

References:
    RFC 9112, section 9.5 (failures and timeouts).
"""

import asyncio
from typing import ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol


class PatientProtocol(H11Protocol):
    """Closes a connection on which no request is at work for `patience_seconds`, whatever trickles in meanwhile."""

    patience_seconds: ClassVar[float] = 60.0
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._wait()

    def on_response_complete(self) -> None:
        """Begin to wait for the next request, which may be here already."""
        self._wait()
        super().on_response_complete()

    def handle_events(self) -> None:
        """Stop waiting once the head of a request has come whole."""
        super().handle_events()
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._stop_waiting()
        self._timer = self.loop.call_later(self.patience_seconds, self._give_up)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self.transport.close()
