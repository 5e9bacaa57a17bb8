"""What a cohort has come to so far, in one file beside its output: nothing in it is computed again.

Results are found by a fingerprint of what they rest on, not by their row: rows may be added, removed and moved, and
a file that changed is computed anew.
"""

import json
import sqlite3
import zlib
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from service.errors import JournalUnusable

SUFFIX: Final = ".journal"
SCHEMA: Final = 1
TABLES: Final = """
CREATE TABLE IF NOT EXISTS outcomes (fingerprint TEXT PRIMARY KEY, succeeded INTEGER NOT NULL, content BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS items (fingerprint TEXT PRIMARY KEY, cohort TEXT NOT NULL, number INTEGER NOT NULL);
"""


class Journal:
    """The file, for one process at a time; what was noted is on the disk.

    Raises:
        JournalUnusable: another process has it open, or it is something else.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = sqlite3.connect(path, timeout=1)
        try:
            self._file.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._open()
        except sqlite3.DatabaseError as error:
            self._file.close()
            busy = isinstance(error, sqlite3.OperationalError)
            reason = "another run has it open, or it cannot be written" if busy else "it is no journal"
            raise JournalUnusable(f"{path} cannot be used: {reason} ({error})") from error
        except JournalUnusable:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def find(self, fingerprint: str) -> tuple[bool, dict[str, Any]] | None:
        """Return whether a case succeeded, and its result or its problem; None where neither is known."""
        wanted = "SELECT succeeded, content FROM outcomes WHERE fingerprint = ?"
        with closing(self._file.execute(wanted, [fingerprint])) as found:
            row = found.fetchone()
        return None if row is None else (bool(row[0]), json.loads(zlib.decompress(row[1])))

    def known(self, *, failures: bool) -> set[str]:
        """Return the fingerprints of the cases that succeeded, and of those that failed too if wanted."""
        least = 0 if failures else 1
        return {row[0] for row in self._file.execute("SELECT fingerprint FROM outcomes WHERE succeeded >= ?", [least])}

    def note(self, fingerprint: str, succeeded: bool, content: Mapping[str, Any]) -> None:
        """Keep a case's result, or its problem."""
        packed = zlib.compress(json.dumps(content).encode())
        with self._file:
            self._file.execute("INSERT OR REPLACE INTO outcomes VALUES (?, ?, ?)", [fingerprint, succeeded, packed])

    def items(self) -> tuple[str | None, dict[str, int]]:
        """Return the cohort that the service keeps, and the number of each case in it."""
        rows = self._file.execute("SELECT fingerprint, cohort, number FROM items").fetchall()
        return (rows[0][1] if rows else None), {row[0]: row[2] for row in rows}

    def note_cohort(self, cohort: str, numbers: Mapping[str, int]) -> None:
        """Keep the cohort that the service has made of cases, and their numbers in it, instead of any before."""
        with self._file:
            self._file.execute("DELETE FROM items")
            rows = ((fingerprint, cohort, number) for fingerprint, number in numbers.items())
            self._file.executemany("INSERT INTO items VALUES (?, ?, ?)", rows)

    def forget(self) -> None:
        """Forget every outcome."""
        with self._file:
            self._file.execute("DELETE FROM outcomes")

    def _open(self) -> None:
        (version,) = self._file.execute("PRAGMA user_version").fetchone()
        if version not in (0, SCHEMA):
            raise JournalUnusable(f"{self.path} is of another version of Radfuse; remove it to begin anew")
        with self._file:
            self._file.execute("BEGIN EXCLUSIVE")
            for statement in TABLES.strip().split("\n"):
                self._file.execute(statement)
            self._file.execute(f"PRAGMA user_version = {SCHEMA}")


def journal_of(output: Path) -> Path:
    """Return where the journal of an output lies: beside it."""
    return output.with_name(output.name + SUFFIX)
