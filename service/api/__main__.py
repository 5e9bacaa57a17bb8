"""Run the API until TERM: `python -m service.api`."""

import signal
import sys
from types import FrameType

import uvicorn
from fastapi import FastAPI

from service import log
from service.api.app import create_app
from service.api.protocol import PatientProtocol
from service.config import Settings, settings

# Shorter than what process managers grant between TERM and KILL.
GRACE_SECONDS = 10
KEEP_ALIVE_SECONDS = 30
HEAD_BYTES = 32 * 1024
BACKLOG = 512


def main() -> None:
    """Serve on the configured address."""
    values = settings()
    log.configure(values.log_level, "api")
    # Uvicorn raises the signal again once it has shut down in order.
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, _leave)
    log.logger("api").info("starting", host=values.host, port=values.port)
    create_server(create_app(values), values).run()


def create_server(app: FastAPI, values: Settings) -> uvicorn.Server:
    """Return the server; its event streams end when it is told to stop, for they have no end of their own."""
    server = uvicorn.Server(configure_server(app, values))
    app.state.context.changes.leave_when(lambda: server.should_exit)
    return server


def configure_server(app: FastAPI, values: Settings) -> uvicorn.Config:
    """Return how Uvicorn serves: bounded headers, no banner, `GRACE_SECONDS` for requests under way at TERM."""
    return uvicorn.Config(
        app,
        host=values.host,
        port=values.port,
        http=PatientProtocol,
        ws="none",
        h11_max_incomplete_event_size=HEAD_BYTES,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )


def _leave(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(0)


if __name__ == "__main__":
    main()
