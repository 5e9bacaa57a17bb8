"""Requests and jobs for the ledger's tests."""

import uuid
from typing import Any

from service.job import Job, JobRequest, Upload
from service.ledger import Claim, Ledger

OWNER = "alice"
RULES = {"requeue_seconds": 60, "max_attempts": 3, "retention_seconds": 1000}


def make_request(content: str = "0", **options: Any) -> JobRequest:
    files = (
        Upload(role="image", channel="ct", file="image-ct-0000", bytes=3, sha256=content * 64),
        Upload(role="mask", file="mask-0000", bytes=2, sha256="f" * 64),
    )
    return JobRequest(model="lung-ct@1.0.0", files=files, **options)


def submit(ledger: Ledger, owner: str = OWNER, key: str | None = None, content: str = "0", **options: Any) -> Job:
    job, _ = ledger.create_job(
        job_id=uuid.uuid4().hex,
        owner=owner,
        request=make_request(content, **options),
        case_id="case-1",
        idempotency_key=key,
    )
    return job


def run(ledger: Ledger, worker: str = "w1", lease_seconds: float = 30, owner: str = OWNER) -> Claim:
    """Submit and claim."""
    claim = ledger.claim(submit(ledger, owner).id, worker, lease_seconds, 3)
    assert claim is not None
    return claim
