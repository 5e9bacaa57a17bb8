"""Every error as `application/problem+json`, and the catalogue of problem types behind `/problems/<slug>`.

References:
    RFC 9457 (problem details); RFC 9110, section 10.2.3 (`Retry-After`), 11.6.1 (`WWW-Authenticate`).
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from service import log
from service.errors import (
    CaseError,
    InvalidField,
    MethodNotAllowed,
    NotFound,
    RadfuseError,
    RequestError,
    SettingsInvalid,
    StartFailed,
    SystemBroken,
    Unavailable,
    problem_type,
)

MEDIA_TYPE = "application/problem+json"
# In a job's `problem`, the status that the same refusal would have had at the door.
JOB_STATUS = 422
RETRY_SECONDS = 5
# These stop a process at its start; no caller ever meets them.
NEVER_SENT = frozenset({SettingsInvalid, StartFailed})
_logger = log.logger("api")


@dataclass(frozen=True)
class ProblemType:
    """One documented problem type."""

    slug: str
    title: str
    statuses: tuple[int, ...]
    meanings: tuple[str, ...]
    in_jobs: bool

    @property
    def type(self) -> str:
        """The stable `type` reference."""
        return problem_type(self.slug)


def list_problem_types() -> dict[str, ProblemType]:
    """Return every problem type that exists, by slug: the error classes are the one source."""
    by_slug: dict[str, list[type[RadfuseError]]] = {}
    for family in (CaseError, RequestError, SystemBroken):
        for kind in (family, *_descend(family)):
            if kind not in NEVER_SENT:
                by_slug.setdefault(kind.slug, []).append(kind)
    return {slug: _describe(slug, kinds) for slug, kinds in sorted(by_slug.items())}


def _descend(kind: type[RadfuseError]) -> Iterator[type[RadfuseError]]:
    for child in kind.__subclasses__():
        yield child
        yield from _descend(child)


def _describe(slug: str, kinds: list[type[RadfuseError]]) -> ProblemType:
    return ProblemType(
        slug=slug,
        title=kinds[-1].title,
        statuses=tuple(sorted({_status_of(kind) for kind in kinds})),
        meanings=tuple(dict.fromkeys((kind.__doc__ or "").strip() for kind in reversed(kinds))),
        in_jobs=any(not issubclass(kind, RequestError) for kind in kinds),
    )


def _status_of(kind: type[RadfuseError]) -> int:
    if issubclass(kind, RequestError):
        return kind.status
    return JOB_STATUS if issubclass(kind, CaseError) else 500


def problem_response(document: Mapping[str, Any], *, status: int, headers: Mapping[str, str] | None = None) -> Response:
    """Render a problem document; `retry_after_seconds` among its facts becomes `Retry-After`."""
    more = dict(headers or {})
    if "retry_after_seconds" in document:
        more["Retry-After"] = str(document["retry_after_seconds"])
    if status == 401:
        more["WWW-Authenticate"] = 'Bearer realm="radfuse"'
    content = json.dumps(document, ensure_ascii=False, allow_nan=False).encode()
    return Response(content, status_code=status, media_type=MEDIA_TYPE, headers=more)


def install_handlers(app: FastAPI) -> None:
    """Make every error of `app` a problem document."""
    app.add_exception_handler(RequestError, _answer_refusal)
    app.add_exception_handler(RadfuseError, _answer_broken)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http)
    for kind in (OperationalError, InterfaceError, PoolTimeout):
        app.add_exception_handler(kind, _answer_ledger)
    app.add_exception_handler(ClientDisconnect, _answer_nobody)
    app.add_exception_handler(Exception, _answer_unexpected)


async def _answer_refusal(_request: Request, error: Exception) -> Response:
    refusal = error if isinstance(error, RequestError) else RequestError("the request was refused")
    return problem_response(refusal.problem(refusal.status), status=refusal.status)


async def _answer_broken(_request: Request, error: Exception) -> Response:
    slug, title = (error.slug, error.title) if isinstance(error, RadfuseError) else _INTERNAL
    _logger.error("service-broken", problem=slug, exc_info=error)
    return problem_response(_broken(slug, title), status=500)


async def _answer_unexpected(_request: Request, error: Exception) -> Response:
    _logger.error("unexpected-error", exc_info=error)
    return problem_response(_broken(*_INTERNAL), status=500)


async def _answer_ledger(_request: Request, error: Exception) -> Response:
    _logger.error("ledger-unavailable", exc_info=error)
    problem = Unavailable("the ledger cannot be reached", retry_after_seconds=RETRY_SECONDS)
    return problem_response(problem.problem(problem.status), status=problem.status)


async def _answer_invalid(_request: Request, error: Exception) -> Response:
    found = error.errors() if isinstance(error, RequestValidationError) else []
    names = [_name(entry["loc"]) for entry in found]
    # Pydantic's message says what was expected; the value that was sent is not repeated.
    reasons = "; ".join(f"{name}: {entry['msg']}" for name, entry in zip(names, found, strict=True))
    problem = InvalidField(reasons, field=names[0] if names else None)
    return problem_response(problem.problem(problem.status), status=problem.status)


async def _answer_http(_request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 400
    headers = error.headers if isinstance(error, HTTPException) else None
    problem: RequestError = RequestError("the request was refused")
    if status == 404:
        problem = NotFound("no such address; GET /docs lists those there are")
    elif status == 405:
        problem = MethodNotAllowed("this address does not offer the method")
    return problem_response(problem.problem(status), status=status, headers=headers)


async def _answer_nobody(_request: Request, _error: Exception) -> Response:
    _logger.info("upload-abandoned")
    return Response(status_code=400)  # nobody is there to read it


_INTERNAL = (RadfuseError.slug, SystemBroken.title)


def _broken(slug: str, title: str) -> dict[str, Any]:
    return {
        "type": problem_type(slug),
        "title": title,
        "status": 500,
        "detail": "the service is at fault; its log says more",
    }


def _name(location: Iterable[object]) -> str:
    """Return the parameter's own name: the place (`query`, `header`) comes first in Pydantic's location."""
    return ".".join(str(step) for step in location if step not in ("query", "header", "path", "body"))
