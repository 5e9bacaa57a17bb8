"""The table of results: written whole, then put in place, in the order of the table of cases."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from service.cohort.run import Cohort
from service.report.columns import Columns, Entry
from service.report.parquet import stream_parquet
from service.report.table import stream_csv

OUTPUTS: Final = (".csv", ".parquet")


def write_table(cohort: Cohort, output: Path) -> list[str]:
    """Write one row per region, and one for every case without a result; in bounded memory, and all or nothing.

    Returns:
        What made the results, as "model@version (digest), Radfuse version": several, where it changed on the way.
    """
    seen: dict[str, None] = {}
    columns = cohort.columns()
    part = output.with_name(f"{output.name}.part")
    with part.open("wb") as file:
        for block in _blocks(_noting(cohort.entries(), seen), columns, output.suffix):
            file.write(block)
    part.replace(output)
    return list(seen)


def _blocks(entries: Iterable[Entry], columns: Columns, suffix: str) -> Iterator[bytes]:
    if suffix == ".parquet":
        return stream_parquet(entries, columns)
    return (line.encode() for line in stream_csv(entries, columns))


def _noting(entries: Iterable[Entry], seen: dict[str, None]) -> Iterator[Entry]:
    for document, beside in entries:
        if document.get("rois"):
            model = document["model"]
            version = document["provenance"]["versions"]["radfuse"]
            seen[f"{model['name']}@{model['version']} ({model['sha256'][:12]}), Radfuse {version}"] = None
        yield document, beside
