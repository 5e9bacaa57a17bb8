"""JSON lines on standard error that cannot hold a patient's data.

A line holds only the fields of `FIELDS`; any other is dropped. An exception becomes its class and its frames
(`module:line`), never its message: a parser's message may quote the file it read. Lines of other libraries are
reduced in the same way: their template is program text and stays, their arguments do not.
"""

import logging
import sys
import traceback
from collections.abc import MutableMapping
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import structlog

FIELDS = frozenset(
    {
        *("timestamp", "level", "event", "process", "part", "logger", "where", "template", "error", "frames"),
        *("job_id", "owner", "state", "attempt", "stage", "problem", "worker", "device", "model", "signal", "pid"),
        *("seconds", "delay_seconds", "count", "counts", "bytes", "threads"),
        *("method", "route", "status", "host", "port", "version", "key_id", "workers"),
    }
)
# Other libraries speak below this level only of themselves, and of others' data.
LIBRARIES_LEVEL = logging.WARNING
LIBRARIES = ("celery", "kombu", "multiprocessing", "uvicorn", "alembic", "sqlalchemy", "asyncio", "fastapi")
MOST_FRAMES = 12


def configure(level: str, process: str, stream: TextIO | None = None) -> None:
    """Set up this process's log; call it once, first thing.

    Args:
        level: least severe line, of `RADFUSE_LOG_LEVEL`.
        process: the name every line carries: api, dispatcher, worker.
        stream: where lines go; standard error by default.
    """
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(process=process)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _reduce_exception,
            _keep_fields,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.WriteLoggerFactory(stream or sys.stderr),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers[:] = [_LibraryHandler()]
    root.setLevel(LIBRARIES_LEVEL)
    for name in LIBRARIES:
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    logging.captureWarnings(capture=True)


def logger(name: str) -> structlog.typing.FilteringBoundLogger:
    """Return a logger whose lines carry this name."""
    bound: structlog.typing.FilteringBoundLogger = structlog.get_logger(part=name)
    return bound


def describe_frames(trace: TracebackType | None) -> list[str]:
    """Return the innermost frames of a traceback as `module.py:line`, outermost first."""
    frames = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in traceback.extract_tb(trace)]
    return frames[-MOST_FRAMES:]


def _reduce_exception(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace `exc_info`, an exception or True for the one being handled, by its class and frames."""
    found = event.pop("exc_info", None)
    error = sys.exc_info()[1] if found is True else found[1] if isinstance(found, tuple) else found
    if isinstance(error, BaseException):
        event["error"] = type(error).__name__
        event["frames"] = describe_frames(error.__traceback__)
    return event


def _keep_fields(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {name: value for name, value in event.items() if name in FIELDS}


class _LibraryHandler(logging.Handler):
    """Turns the standard library's log records into lines of ours."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == "py.warnings":
            _tell_warning(record)
            return
        fields: dict[str, Any] = {"logger": record.name, "where": f"{record.filename}:{record.lineno}"}
        # Without arguments the text may have been put together already, with data in it.
        if record.args and isinstance(record.msg, str) and record.name.partition(".")[0] in LIBRARIES:
            fields["template"] = record.msg
        if record.exc_info and record.exc_info[1] is not None:
            fields["exc_info"] = record.exc_info
        level = record.levelname.lower()
        method = level if level in ("debug", "info", "warning", "error", "critical") else "warning"
        getattr(structlog.get_logger(), method)("library", **fields)


def _tell_warning(record: logging.LogRecord) -> None:
    """Keep a warning's place and class: it was put together as `path:line: Class: text`."""
    place, _, rest = record.getMessage().partition(": ")
    structlog.get_logger().warning("warning", where=Path(place).name, error=rest.partition(":")[0])
