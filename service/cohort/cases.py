"""The table of a cohort, in PyRadiomics' batch format: what each row names, and what it rests on.

Columns `Image` and `Mask` name files, relative to the table; `Image.<channel>` for models of several channels. `Label`
chooses the region and `case_id` is a pseudonym, where they are there and not empty. Any other column is kept.

References:
    PyRadiomics 3.0.1, `radiomics/scripts/__init__.py` (batch mode).
"""

import csv
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from service.client import Options, Submission
from service.errors import FileMissing, ManifestInvalid

IMAGE: Final = "Image"
MASK: Final = "Mask"
LABEL: Final = "Label"
LABEL_CHANNEL: Final = "Label_channel"
CASE_ID: Final = "case_id"
FORMATS: Final = (".csv",)


@dataclass(frozen=True)
class CohortCase:
    """One row.

    Attributes:
        line: of the table, from 1, the heading being the first.
        cells: every cell by its column.
        folder: what the cells' paths are relative to.
    """

    line: int
    cells: Mapping[str, str]
    folder: Path

    @property
    def case_id(self) -> str | None:
        """The pseudonym, if there is one."""
        return self.cells.get(CASE_ID) or None

    @property
    def roi(self) -> str | None:
        """The region that the row chooses, if it does."""
        return self.cells.get(LABEL) or None

    @property
    def name(self) -> str:
        """What tells the row from others to the one who wrote the table."""
        return self.case_id or next(self.cells[column] for column in self.cells if _channel_of(column) is not None)

    @property
    def extra(self) -> dict[str, str]:
        """Every cell but the pseudonym, which has a column of its own in the output."""
        return {column: cell for column, cell in self.cells.items() if column != CASE_ID}

    def submission(self, options: Options) -> Submission:
        """Return the case as it is sent, or read here.

        Args:
            options: what holds for all rows.

        Raises:
            FileMissing: a file is not named, or not there.
        """
        images = {channel: self._find(column) for column, channel in _channels(self.cells)}
        given: Options = {**options, "roi": self.roi or options.get("roi"), "case_id": self.case_id}
        return Submission.of(images, self._find(MASK), **given)

    def _find(self, column: str) -> Path:
        if not self.cells[column]:
            raise FileMissing(f"the cell {column} is empty")
        path = self.folder / self.cells[column]
        if not path.exists():
            raise FileMissing(f"there is no {path}")
        return path


def read_cases(table: Path) -> list[CohortCase]:
    """Read the rows of a table.

    Raises:
        ManifestInvalid: not UTF-8, no such table, without the columns needed, or without rows.
    """
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            _check_columns(table, reader.fieldnames or ())
            rows = [CohortCase(reader.line_num, _check_row(reader.line_num, row), table.parent) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ManifestInvalid(f"{table} cannot be read as CSV in UTF-8 ({error})") from error
    if not rows:
        raise ManifestInvalid(f"{table} has no rows")
    return rows


def fingerprint(submission: Submission, folder: Path, models: Mapping[str, str]) -> str:
    """Return a digest of everything that decides a case's result.

    Files count by name, size and time of change: reading all of them again would take as long as sending them.

    Args:
        submission: the case.
        folder: what the names of its files are relative to, where they lie below it.
        models: digests of the bundles that may be used, by `name@version`.
    """
    radiomics: Any = submission.radiomics
    if isinstance(radiomics, Path):
        radiomics = hashlib.sha256(radiomics.read_bytes()).hexdigest()
    content = {
        "texts": submission.texts() | {"case_id": None},
        "radiomics": radiomics,
        "files": [
            [field, _relative(path, folder), path.stat().st_size, path.stat().st_mtime_ns]
            for field, path in submission.files()
            if field != "radiomics"
        ],
        "models": dict(models),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _relative(path: Path, folder: Path) -> str:
    return str(path.relative_to(folder) if path.is_relative_to(folder) else path)


def _channels(columns: Sequence[str] | Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for column in columns:
        channel = _channel_of(column)
        if channel is not None:
            yield column, channel


def _channel_of(column: str) -> str | None:
    """Return the channel whose images a column names, "" for the only one; None for any other column."""
    name, dot, channel = column.partition(".")
    return channel if name == IMAGE and bool(dot) == bool(channel) else None


def _check_columns(table: Path, columns: Sequence[str]) -> None:
    if doubled := sorted({column for column in columns if columns.count(column) > 1}):
        raise ManifestInvalid(f"{table}: the columns {', '.join(doubled)} come twice")
    channels = [channel for _, channel in _channels(columns)]
    if not channels or MASK not in columns:
        raise ManifestInvalid(
            f"{table} has the columns {', '.join(columns) or 'none'}; expected {IMAGE} (or {IMAGE}.<channel>) and "
            f"{MASK}, separated by commas"
        )
    if "" in channels and len(channels) > 1:
        raise ManifestInvalid(f"{table} has both {IMAGE} and {IMAGE}.<channel>; expected one or the other")


def _check_row(line: int, row: Mapping[str | None, Any]) -> dict[str, str]:
    if None in row:
        raise ManifestInvalid(f"line {line} has more cells than there are columns")
    cells = {str(column): (cell or "").strip() for column, cell in row.items()}
    if cells.get(LABEL_CHANNEL, "0") not in ("", "0"):
        raise ManifestInvalid(f"line {line}: {LABEL_CHANNEL} other than 0 is not supported; masks have one channel")
    return cells
