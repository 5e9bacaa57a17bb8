"""Read the tables of labels that come with a collection."""

import csv
from collections.abc import Iterable
from pathlib import Path

from training.config import ConfigError

Row = dict[str, str]
ABSENT = frozenset({"", "na", "n/a", "nan", "none", "unknown"})


def read_rows(path: Path, needed: Iterable[str]) -> list[Row]:
    """Read a CSV with a header line, values stripped.

    Raises:
        ConfigError: the file cannot be read as text, or a needed column is missing.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = [column.strip() for column in reader.fieldnames or ()]
            rows = [dict(zip(columns, map(_strip, row.values()), strict=False)) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path.name} cannot be read as a table: {type(error).__name__}") from error
    if missing := [column for column in needed if column not in columns]:
        raise ConfigError(f"{path.name} has no column {missing[0]!r}; it has {', '.join(columns) or 'none'}")
    return rows


def is_absent(value: str) -> bool:
    """Whether a table's value stands for "not known"."""
    return value.lower() in ABSENT


def _strip(value: object) -> str:
    return value.strip() if isinstance(value, str) else ""
