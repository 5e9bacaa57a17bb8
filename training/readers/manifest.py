"""Read a plain CSV of cases, for any collection that has no reader of its own.

One line per region. Columns, in any order:

    case             its name, unique
    patient          whose it is (default: the case)
    site             where it comes from (default: the file's name)
    image.<channel>  a channel's image, one column per channel; a column `image` is a channel of that name
    mask             the label image on the image's grid
    roi              a label's value or name; `whole` takes all labels together; empty where there is one
    label.<target>   the class, one column per target; empty where it is not known

Paths are relative to the CSV's folder. A path to a folder means the DICOM series inside it.
"""

from collections.abc import Iterator
from pathlib import Path

from training.cases import CaseIndex, CaseRecord, Finding
from training.config import ConfigError
from training.readers.table import Row, is_absent, read_rows

PLAIN = frozenset({"case", "patient", "site", "mask", "roi"})


def read_manifest(path: Path) -> tuple[CaseIndex, list[Finding]]:
    """List the cases of a manifest and what is missing.

    Args:
        path: the CSV, or a folder that holds it under the name cases.csv.

    Raises:
        ConfigError: the CSV cannot be read, or has no column `case`, `mask` or `image...`.
    """
    table = path / "cases.csv" if path.is_dir() else path
    rows = read_rows(table, ["case", "mask"])
    columns = list(rows[0]) if rows else []
    if rows and not any(_channel(column) for column in columns):
        raise ConfigError(f"{table.name} has no column image or image.<channel>; it has {', '.join(columns)}")
    records: dict[str, CaseRecord] = {}
    findings = [Finding(table.stem, "unknown-column", f"{name!r} is not used") for name in columns if not _known(name)]
    for number, row in enumerate(rows, start=2):
        case_id = row["case"] or f"line {number}"
        odd = list(_judge(row, case_id, table.parent))
        if case_id in records:
            odd.append(Finding(case_id, "duplicate-case", f"line {number} has the name of an earlier one"))
        elif not any(one.kind in ("missing-image", "missing-mask") for one in odd):
            records[case_id] = _record(row, case_id, table)
        findings += odd
    return CaseIndex(table.stem, tuple(records.values())), findings


def _record(row: Row, case_id: str, table: Path) -> CaseRecord:
    channels = {column: channel for column in row if (channel := _channel(column))}
    return CaseRecord(
        case_id=case_id,
        patient_id=row.get("patient") or case_id,
        site=row.get("site") or table.stem,
        images={channel: _files(table.parent / row[column]) for column, channel in channels.items() if row[column]},
        mask=_files(table.parent / row["mask"]),
        roi=row.get("roi") or None,
        labels={target: row[column] for column, target in _targets(row).items() if not is_absent(row[column])},
    )


def _judge(row: Row, case_id: str, folder: Path) -> Iterator[Finding]:
    channels = [column for column in row if _channel(column)]
    if not any(row[column] for column in channels):
        yield Finding(case_id, "missing-image", "no image is named")
    for column in channels:
        if not row[column]:
            yield Finding(case_id, "missing-sequence", f"{column} is empty")
        elif not _files(folder / row[column]):
            yield Finding(case_id, "missing-image", f"{column}: {row[column]} is not there")
    if not row["mask"] or not _files(folder / row["mask"]):
        yield Finding(case_id, "missing-mask", f"mask: {row['mask'] or 'empty'} is not there")
    for column, target in _targets(row).items():
        if is_absent(row[column]):
            yield Finding(case_id, "missing-label", f"no class for {target}")


def _files(path: Path) -> tuple[Path, ...]:
    """Return the file, or the visible files of a folder in order; nothing where there is none."""
    if path.is_dir():
        return tuple(sorted(one for one in path.iterdir() if one.is_file() and not one.name.startswith(".")))
    return (path,) if path.is_file() else ()


def _channel(column: str) -> str:
    return column if column == "image" else column.partition("image.")[2] if column.startswith("image.") else ""


def _targets(row: Row) -> dict[str, str]:
    return {column: column.removeprefix("label.") for column in row if column.startswith("label.")}


def _known(column: str) -> bool:
    return column in PLAIN or bool(_channel(column)) or column.startswith("label.")
