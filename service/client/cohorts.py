"""What is said to a service of cohorts; see `service.client.conversation`."""

import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias, TypedDict

from service.client.conversation import Call, Document, Patience, Talk, fetch_json, send
from service.client.form import Submission

PAGE: Final = 1000
MEDIA_TYPES: Final = {".csv": "text/csv", ".parquet": "application/vnd.apache.parquet"}


class CohortItem(TypedDict, total=False):
    """One case of a cohort; `image` and `mask` are demanded.

    Attributes:
        image: your own name of its image, or of each channel's; it is kept for the table of results, never opened.
        mask: likewise of its mask.
        case_id: your pseudonym for the case.
        roi: which region, where it is not the cohort's.
        extra: further cells of its row in the table of results.
    """

    image: str | Mapping[str, str]
    mask: str
    case_id: str | None
    roi: str | None
    extra: Mapping[str, str]


CohortItems: TypeAlias = Sequence[CohortItem] | Path


def create(items: CohortItems, options: Submission, patience: Patience) -> Talk[Document]:
    """Make a cohort of items, or of a table in PyRadiomics' batch format; every try carries the same key."""
    headers = {"Idempotency-Key": uuid.uuid4().hex}
    if isinstance(items, Path):
        headers["Content-Type"] = "text/csv"
        query = {name: value for name, value in options.texts().items() if isinstance(value, str)}
        call = Call("POST", "/cohorts", headers, query=query, content=items.read_bytes())
    else:
        call = Call("POST", "/cohorts", headers, json={"items": list(items), **_said(options)})
    document: Document = yield from fetch_json(call, patience)
    return document


def look(cohort: str, patience: Patience) -> Talk[Document]:
    """Return a cohort's document."""
    document: Document = yield from fetch_json(Call("GET", f"/cohorts/{cohort}"), patience)
    return document


def list_all(patience: Patience) -> Talk[list[Document]]:
    """Return the documents of the caller's cohorts, newest first, page after page."""
    found: list[Document] = []
    query: dict[str, str] = {}
    while True:
        page = yield from fetch_json(Call("GET", "/cohorts", query=query), patience)
        found += page["items"]
        if page["next"] is None:
            return found
        query = {"before": page["next"]}


def items(cohort: str, status: str | None, patience: Patience) -> Talk[list[Document]]:
    """Return the documents of a cohort's items, page after page."""
    found: list[Document] = []
    query = {"limit": str(PAGE)} | ({"status": status} if status else {})
    following: Any = 0
    while following is not None:
        call = Call("GET", f"/cohorts/{cohort}/items", query=query | {"after": str(following)})
        page = yield from fetch_json(call, patience)
        found += page["items"]
        following = page["next"]
    return found


def submit_item(cohort: str, number: int, files: Submission, patience: Patience) -> Talk[Document]:
    """Send the files of an item and return its document; the same files again give the same job."""
    document: Document = yield from fetch_json(Call("POST", f"/cohorts/{cohort}/items/{number}", form=files), patience)
    return document


def cancel(cohort: str, patience: Patience) -> Talk[Document]:
    """Cancel what has not ended, and return the cohort's document."""
    document: Document = yield from fetch_json(Call("POST", f"/cohorts/{cohort}/cancel"), patience)
    return document


def save_results(cohort: str, path: Path, patience: Patience) -> Talk[None]:
    """Save the table of results; the path's suffix chooses its format.

    Raises:
        ValueError: neither .csv nor .parquet.
    """
    if path.suffix not in MEDIA_TYPES:
        raise ValueError(f"results are saved as {' or '.join(MEDIA_TYPES)}, not as {path.suffix or 'no suffix'}")
    headers = {"Accept": MEDIA_TYPES[path.suffix]}
    yield from send(Call("GET", f"/cohorts/{cohort}/results", headers, into=path), patience)


def _said(options: Submission) -> dict[str, Any]:
    """Return what holds for all items, as JSON."""
    said: dict[str, Any] = dict(options.texts())
    if isinstance(options.radiomics, Path):
        said["radiomics_parameters"] = options.radiomics.read_text(encoding="utf-8")
    if options.resample_mask:
        said["resample_mask"] = True
    return said
