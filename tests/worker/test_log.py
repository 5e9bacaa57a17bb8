"""The log holds allowed fields and nothing of a case."""

import io
import json
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from service import log

SECRET = "DOE^JOHN"


@pytest.fixture
def lines() -> Iterator["Lines"]:
    root = logging.getLogger()
    handlers, level, show = list(root.handlers), root.level, warnings.showwarning
    lines = Lines()
    log.configure("INFO", "test", lines.stream)
    yield lines
    logging.captureWarnings(capture=False)
    warnings.showwarning = show
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


class Lines:
    def __init__(self) -> None:
        self.stream = io.StringIO()

    def read(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]


def test_unknown_fields_are_dropped(lines: Lines) -> None:
    log.logger("worker").info("started", job_id="0f", patient=SECRET)

    (line,) = lines.read()
    assert line["event"] == "started"
    assert line["job_id"] == "0f"
    assert line["process"] == "test"
    assert SECRET not in lines.stream.getvalue()


def test_an_exception_is_its_class_and_its_frames(lines: Lines) -> None:
    try:
        int(SECRET)
    except ValueError:
        log.logger("worker").exception("broken")

    (line,) = lines.read()
    assert line["error"] == "ValueError"
    assert line["frames"][-1].startswith("test_log.py:")
    assert SECRET not in lines.stream.getvalue()


def test_a_librarys_line_is_its_template(lines: Lines) -> None:
    try:
        int(SECRET)
    except ValueError:
        logging.getLogger("celery.worker").exception("Task %s raised %r", SECRET, SECRET)
    logging.getLogger("a.library").warning("bad value " + SECRET)  # noqa: G003 - as libraries do
    logging.getLogger("a.library").warning("bad value %s", SECRET)
    logging.getLogger("celery").info("received %s", SECRET)

    first, *others = lines.read()
    assert first["template"] == "Task %s raised %r"
    assert first["error"] == "ValueError"
    assert [line["where"].split(":")[0] for line in others] == ["test_log.py"] * 2
    assert not any("template" in line for line in others)
    assert SECRET not in lines.stream.getvalue()


def test_a_warning_is_where_it_came_from(lines: Lines) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn(SECRET, stacklevel=1)

    (line,) = lines.read()
    assert line["where"].startswith("test_log.py:")
    assert line["error"] == "UserWarning"
    assert SECRET not in lines.stream.getvalue()
