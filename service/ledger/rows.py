"""From the ledger's rows to the values that the rest of the service sees."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from service.job import Job, JobRequest, JobState


@dataclass(frozen=True)
class Claim:
    """A worker's right to run a job: everything it writes is fenced by (worker, attempt)."""

    job: Job
    worker: str
    attempt: int


@dataclass(frozen=True)
class Cohort:
    """A manifest of many cases. `options` are the form's fields that hold for every item."""

    id: str
    owner: str
    options: dict[str, Any]
    columns: tuple[str, ...]
    items: int
    created_at: datetime

    @property
    def cursor(self) -> str:
        """The opaque place of this cohort in its owner's list."""
        return f"{self.created_at.timestamp():.6f}-{self.id}"


@dataclass(frozen=True)
class CohortItem:
    """One row of a manifest, with its job once its files have come. `item` counts from 1."""

    item: int
    cells: tuple[str, ...]
    job: Job | None


@dataclass(frozen=True)
class ApiKey:
    """An API key without its secret. `id` is the key's public part and names its jobs' owner."""

    id: str
    name: str
    scopes: tuple[str, ...]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True)
class Process:
    """A live process of the service, as its heartbeat shows it. `device` is what an encoder really runs on."""

    name: str
    kind: str
    device: str | None
    beat_at: datetime


@dataclass(frozen=True)
class Reconciled:
    """What one pass over lost and old work did: `counts` by kind, and the jobs whose files must go."""

    counts: dict[str, int] = field(default_factory=dict)
    delete: tuple[str, ...] = ()


def moment(seconds: float) -> datetime:
    """Convert seconds since 1970 to an aware time."""
    return datetime.fromtimestamp(seconds, UTC)


def moment_or_none(seconds: float | None) -> datetime | None:
    """Convert seconds since 1970, where there are any, to an aware time."""
    return None if seconds is None else moment(seconds)


def to_job(row: sa.Row[Any]) -> Job:
    """Build the job from a row of `jobs`."""
    return Job(
        id=row.id,
        owner=row.owner,
        case_id=row.case_id,
        state=JobState(row.state),
        request=None if row.request is None else JobRequest.model_validate_json(row.request),
        attempt=row.attempt,
        stage=row.stage,
        problem=None if row.problem is None else json.loads(row.problem),
        version=row.version,
        created_at=moment(row.created_at),
        started_at=moment_or_none(row.started_at),
        finished_at=moment_or_none(row.finished_at),
    )


def to_cohort(row: sa.Row[Any]) -> Cohort:
    """Build the cohort from a row of `cohorts`."""
    return Cohort(
        id=row.id,
        owner=row.owner,
        options=json.loads(row.options),
        columns=tuple(json.loads(row.columns)),
        items=row.items,
        created_at=moment(row.created_at),
    )


def to_key(row: sa.Row[Any]) -> ApiKey:
    """Build the key from a row of `api_keys`."""
    return ApiKey(
        id=row.id,
        name=row.name,
        scopes=tuple(row.scopes.split()),
        created_at=moment(row.created_at),
        expires_at=moment_or_none(row.expires_at),
        revoked_at=moment_or_none(row.revoked_at),
    )


def to_text(document: dict[str, Any]) -> str:
    """Serialise a document as strict JSON.

    Raises:
        ValueError: it holds NaN or an infinity, which JSON cannot.
    """
    return json.dumps(document, allow_nan=False, separators=(",", ":"))
