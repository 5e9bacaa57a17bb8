"""From the ledger's records of cohorts to the documents, and the tables, that callers see."""

import math
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Literal, TypeAlias

from pydantic import Field

from service.api.cohort_manifest import CASE_ID, case_id_of, label_of
from service.api.schemas import Document, ModelReference, Problem
from service.api.views import view_job, view_time
from service.job import JobState
from service.ledger import Cohort, CohortItem, Ledger
from service.report.columns import Columns, Entry

AWAITING = "awaiting-files"
ItemStatus: TypeAlias = Literal["awaiting-files", "queued", "running", "succeeded", "failed", "cancelled"]
ENDED = (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)
PAGE = 50  # results read from the ledger at once: some may be of many regions
BLOCK_CHARACTERS = 64 * 1024
LONGEST_RETRY_SECONDS = 30


class CohortDocument(Document):
    """A cohort: how far it has come."""

    id: str
    status: Literal["awaiting-files", "running", "ended"] = Field(
        description="`running` while a job of it waits or runs; else `awaiting-files` while items have no files yet."
    )
    model: ModelReference
    created_at: datetime
    items: int = Field(description="Cases in the manifest.")
    counts: dict[ItemStatus, int] = Field(description="Items by status.")
    progress: float = Field(ge=0, le=1, description="Share of the items that have ended.")
    estimated_seconds: int | None = Field(
        description="Until what has files now has ended, at the pace of the last ends; null where that is not known."
    )
    columns: list[str] = Field(description="Of the manifest.")


class CohortPage(Document):
    """One page of the caller's cohorts, newest first."""

    items: list[CohortDocument]
    next: str | None = Field(description="The `before` of the next page; null on the last.")


class ItemDocument(Document):
    """One case of a cohort."""

    item: int = Field(description="Its row in the manifest, from 1.")
    status: ItemStatus
    case_id: str | None
    roi: str | None = Field(description="The manifest's `Label`.")
    job: str | None = Field(description="Its job, once its files have come: `/features/{job}`.")
    cells: dict[str, str] = Field(description="The manifest's row.")
    problem: Problem | None = Field(None, description="Only once failed.")


class ItemPage(Document):
    """One page of a cohort's items, in the manifest's order."""

    items: list[ItemDocument]
    next: int | None = Field(description="The `after` of the next page; null on the last.")


def view_cohort(cohort: Cohort, ledger: Ledger) -> dict[str, Any]:
    """Return the `CohortDocument` of a cohort."""
    tally = ledger.tally(cohort.id)
    counts = {AWAITING: cohort.items - sum(tally.values())}
    counts |= dict.fromkeys(("queued", "running", "succeeded", "failed", "cancelled"), 0)
    for state, count in tally.items():
        if count:
            counts[state.public] += count
    unfinished = counts["queued"] + counts["running"]
    pace = ledger.seconds_per_item(cohort.id) if unfinished else None
    name, _, version = str(cohort.options["texts"]["model"]).partition("@")
    return {
        "id": cohort.id,
        "status": "running" if unfinished else AWAITING if counts[AWAITING] else "ended",
        "model": {"name": name, "version": version},
        "created_at": view_time(cohort.created_at),
        "items": cohort.items,
        "counts": counts,
        "progress": sum(tally[state] for state in ENDED) / cohort.items,
        "estimated_seconds": None if pace is None else math.ceil(pace * unfinished),
        "columns": list(cohort.columns),
    }


def retry_after(document: Mapping[str, Any]) -> int | None:
    """Return the seconds after which a running cohort is worth another look."""
    if document["status"] != "running":
        return None
    return max(1, min(document["estimated_seconds"] or 1, LONGEST_RETRY_SECONDS))


def view_item(cohort: Cohort, item: CohortItem) -> dict[str, Any]:
    """Return the `ItemDocument` of an item."""
    document: dict[str, Any] = {
        "item": item.item,
        "status": _status(item),
        "case_id": case_id_of(cohort.columns, item.cells),
        "roi": label_of(cohort.columns, item.cells),
        "job": None if item.job is None else item.job.id,
        "cells": dict(zip(cohort.columns, item.cells, strict=True)),
    }
    if item.job is not None and item.job.problem is not None:
        document["problem"] = item.job.problem
    return document


def table_columns(cohort: Cohort, ledger: Ledger) -> Columns:
    """Return the columns of the table of results so far: those of the manifest, the problem, all features found.

    It looks at every result once and holds one at a time.
    """
    documents = (document for document, _ in table_entries(cohort, ledger, None))
    extra = [name for name in cohort.columns if name != CASE_ID]
    return Columns.gather(documents, extra, with_problem=True)


def table_entries(cohort: Cohort, ledger: Ledger, columns: Columns | None) -> Iterator[Entry]:
    """Yield every item in the manifest's order as an entry of the table of results, page by page.

    A result that came while the table was being written, with features that have no column in it, is passed over: its
    row says so.
    """
    known = None if columns is None else frozenset(columns.features)
    after = 0
    while True:
        last = after
        for item, result in ledger.list_item_results(cohort.id, cohort.owner, after=after, limit=PAGE):
            last = item.item
            document = _row_document(cohort, item, result)
            if known is not None and not _fits(document, known):
                document = {**document, "rois": None, "status": "ended while this table was made"}
            yield document, dict(zip(cohort.columns, item.cells, strict=True))
        if last == after:
            return
        after = last


def in_blocks(lines: Iterable[str]) -> Iterator[bytes]:
    """Gather lines into blocks worth sending."""
    gathered: list[str] = []
    size = 0
    for line in lines:
        gathered.append(line)
        size += len(line)
        if size >= BLOCK_CHARACTERS:
            yield "".join(gathered).encode()
            gathered, size = [], 0
    yield "".join(gathered).encode()


def _row_document(cohort: Cohort, item: CohortItem, result: dict[str, Any] | None) -> dict[str, Any]:
    job = {"id": None, "status": AWAITING} if item.job is None else view_job(item.job, None, result)
    return {**job, "case_id": case_id_of(cohort.columns, item.cells)}


def _fits(document: Mapping[str, Any], known: frozenset[str]) -> bool:
    return all(region["features"].keys() <= known for region in document.get("rois") or ())


def _status(item: CohortItem) -> str:
    return AWAITING if item.job is None else item.job.state.public
