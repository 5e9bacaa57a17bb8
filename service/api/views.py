"""From the ledger's records to the documents of `service.api.schemas`."""

from datetime import UTC, datetime
from typing import Any

from service.api.catalogue import Listed
from service.job import Job, JobState
from service.report.reportable import without_references

STAGES = ("reading", "radiomics", "encoder", "prediction")
Document = dict[str, Any]


def view_job(
    job: Job,
    position: int | None = None,
    result: Document | None = None,
    *,
    estimated_seconds: float | None = None,
) -> Document:
    """Return the `JobDocument` of a job.

    Args:
        job: the record.
        position: place in the queue, 1 being next; None unless queued.
        result: the stored result; its `model`, `rois` and `provenance` become members.
        estimated_seconds: until its end; None where that is not known.
    """
    running = job.state is JobState.RUNNING
    document: Document = {
        "id": job.id,
        "case_id": job.case_id,
        "status": job.state.public,
        "model": _view_reference(job),
        "created_at": view_time(job.created_at),
        "started_at": view_time(job.started_at),
        "finished_at": view_time(job.finished_at),
        "queue_position": position,
        "estimated_seconds": estimated_seconds,
        "stage": job.stage if running else None,
        "progress": _progress(job),
    }
    if job.problem is not None:
        document["problem"] = job.problem
    return document | without_references(result or {})


def view_model(listed: Listed) -> Document:
    """Return the `ModelDocument` of a bundle."""
    manifest = listed.manifest
    return {
        "name": manifest.name,
        "version": manifest.version,
        "sha256": listed.sha256,
        "summary": manifest.summary,
        "demonstration": manifest.demonstration,
        "licence": manifest.licence,
        "modality": manifest.modality,
        "channels": manifest.channels,
        "targets": [{"target": head.target, "classes": head.classes} for head in manifest.heads],
        "features": len(manifest.feature_names),
        "card": f"/models/{manifest.name}/card",
    }


def etag_of(job: Job, position: int | None) -> str:
    """Return a weak validator of the job's representations."""
    return f'W/"{mark_of(job, position)}"'


def mark_of(job: Job, position: int | None) -> str:
    """Return what changes with every change of the job: its version, and its place in the queue."""
    return f"{job.version}-{position or 0}"


def _view_reference(job: Job) -> Document | None:
    if job.request is None:
        return None
    name, _, version = job.request.model.partition("@")
    return {"name": name, "version": version}


def view_time(time: datetime | None) -> str | None:
    """Return a time in UTC as ISO 8601 writes it."""
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z") if time is not None else None


def _progress(job: Job) -> float:
    """Return the share of stages left behind: it claims nothing about time."""
    if job.state is JobState.SUCCEEDED:
        return 1.0
    if job.state is not JobState.RUNNING or job.stage not in STAGES:
        return 0.0
    return STAGES.index(job.stage) / len(STAGES)
