"""Results as CSV: one row per region. Standard library only, for the API builds it too."""

import csv
from collections.abc import Iterable, Iterator
from typing import Any, Final

from service.report.columns import Columns, Document, Entry

FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r", "\n")


def to_csv(documents: Iterable[Document]) -> str:
    """Write result documents as CSV (RFC 4180), one row per region; see `stream_csv`.

    Args:
        documents: finished jobs as the API shows them, or bare results of the pipeline.
    """
    held = list(documents)
    return "".join(stream_csv(((document, {}) for document in held), Columns.gather(held)))


def stream_csv(entries: Iterable[Entry], columns: Columns) -> Iterator[str]:
    """Yield a table as CSV (RFC 4180), line by line; the first line holds the names.

    Numbers are written so that reading them gives the same bits; a cell is empty where there is no value. Text that a
    spreadsheet would take for a formula is preceded by an apostrophe.

    Args:
        entries: finished jobs as the API shows them, each with the values of its extra columns.
        columns: of the table.

    Raises:
        ValueError: a result has a feature or prediction without a column.
    """
    lines = _Lines()
    writer = csv.writer(lines, lineterminator="\r\n")
    writer.writerow(map(_safe, columns.names))
    yield lines.last
    for document, beside in entries:
        for row in columns.rows(document, beside):
            writer.writerow(map(_cell, row))
            yield lines.last


class _Lines:
    """What the CSV writer writes to: it keeps the last line."""

    last = ""

    def write(self, line: str) -> None:
        self.last = line


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, float) else _safe(value)


def _safe(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA_STARTS) else value
