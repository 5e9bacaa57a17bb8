"""Results as a table: one row per region. Standard library only, for the API builds it too."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, TypeAlias

Document: TypeAlias = Mapping[str, Any]
Row: TypeAlias = dict[str, Any]

LEADING: Final = ("case_id", "job_id", "model", "roi", "voxels", "volume_mm3")
FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r", "\n")


def to_csv(documents: Iterable[Document]) -> str:
    """Write result documents as CSV (RFC 4180), one row per region.

    Columns: the case and region, the features in their order, then for each target the class, the probability
    of each class and whether the case is like those of training. Numbers are written so that reading them gives
    the same bits; a cell is empty where there is no value. Text that a spreadsheet would take for a formula is
    preceded by an apostrophe.

    Args:
        documents: finished jobs as the API shows them, or bare results of the pipeline.
    """
    rows = [row for document in documents for row in _rows(document)]
    features = _in_order(row["features"] for row in rows)
    predictions = _in_order(row["predictions"] for row in rows)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow([*LEADING, *map(_safe, features), *map(_safe, predictions)])
    for row in rows:
        cells = [*row["leading"], *(row["features"].get(name) for name in features)]
        writer.writerow(map(_cell, [*cells, *(row["predictions"].get(name) for name in predictions)]))
    return text.getvalue()


def _rows(document: Document) -> Iterator[Row]:
    model = document.get("model")
    reference = f"{model['name']}@{model['version']}" if model else None
    for region in document.get("rois") or ():
        roi = region["roi"]
        yield {
            "leading": [
                document.get("case_id"),
                document.get("id"),
                reference,
                roi["name"],
                roi["voxels"],
                roi["volume_mm3"],
            ],
            "features": region["features"],
            "predictions": _prediction_cells(region["predictions"]),
        }


def _prediction_cells(predictions: Iterable[Document]) -> Row:
    cells: Row = {}
    for prediction in predictions:
        target = prediction["target"]
        cells[target] = prediction["class"]
        for label, probability in prediction["probabilities"].items():
            cells[f"{target}_probability_{label}"] = probability
        cells[f"{target}_in_distribution"] = prediction["in_distribution"]
    return cells


def _in_order(rows: Iterable[Row]) -> list[str]:
    """Return every key once, in the order of first appearance."""
    return list(dict.fromkeys(key for row in rows for key in row))


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, float) else _safe(value)


def _safe(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA_STARTS) else value
