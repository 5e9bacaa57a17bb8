"""Results as Parquet: the rows and columns of the CSV table, typed, with what each column means in its metadata.

PyArrow is imported when the first table is written, not before: it takes a moment and tens of megabytes, and a
process that is never asked for Parquet needs none of it.
"""

import io
import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from service.report.columns import Columns, Document, Entry, Kind

if TYPE_CHECKING:
    import pyarrow

CELLS_PER_GROUP: Final = 500_000  # 4 MB of numbers; what is held in memory while a table is written
ORIGIN: Final = "radfuse"  # key of the file's metadata


def to_parquet(documents: Iterable[Document]) -> bytes:
    """Write result documents as one Parquet file, one row per region; see `stream_parquet`.

    Args:
        documents: finished jobs as the API shows them, or bare results of the pipeline.
    """
    held = list(documents)
    return b"".join(stream_parquet(((document, {}) for document in held), Columns.gather(held)))


def stream_parquet(entries: Iterable[Entry], columns: Columns) -> Iterator[bytes]:
    """Yield a table as a Parquet file, row group by row group.

    A value that is not there, as that of a feature that is not defined on a region, is null. A column's metadata hold
    its UCUM `unit` and, of a feature, `ibsi` (code), `ibsi_deviation`, `feature_class`, `image_type` and `channel`,
    where they apply. The file's metadata hold, as JSON under `radfuse`, every model, version and digest of settings
    that its rows come from.

    Args:
        entries: finished jobs as the API shows them, each with the values of its extra columns.
        columns: of the table.

    Raises:
        ValueError: a result has a feature or prediction without a column.
    """
    from pyarrow import parquet  # noqa: PLC0415 - see above

    schema = _schema(columns)
    texts = [column.name for column in columns if column.kind is Kind.TEXT]
    sink, origin = _Sink(), _Origin()
    rows = (row for document, beside in entries for row in columns.rows(origin.note(document), beside))
    with parquet.ParquetWriter(
        sink, schema, compression="zstd", use_dictionary=texts, write_statistics=texts
    ) as writer:
        while group := list(islice(rows, max(1, CELLS_PER_GROUP // len(columns)))):
            writer.write_batch(_batch(group, schema))
            yield sink.take()
        writer.add_key_value_metadata({ORIGIN: json.dumps(origin.document())})
    yield sink.take()


def _schema(columns: Columns) -> "pyarrow.Schema":
    import pyarrow  # noqa: PLC0415 - see above

    types = {
        Kind.TEXT: pyarrow.string(),
        Kind.WHOLE: pyarrow.int64(),
        Kind.NUMBER: pyarrow.float64(),
        Kind.YES_NO: pyarrow.bool_(),
    }
    return pyarrow.schema(
        [pyarrow.field(column.name, types[column.kind], metadata=dict(column.meaning)) for column in columns]
    )


def _batch(rows: Sequence[Sequence[Any]], schema: "pyarrow.Schema") -> "pyarrow.RecordBatch":
    import pyarrow  # noqa: PLC0415 - see above

    arrays = [pyarrow.array(values, kind) for values, kind in zip(zip(*rows, strict=True), schema.types, strict=True)]
    return pyarrow.RecordBatch.from_arrays(arrays, schema=schema)


class _Sink(io.RawIOBase):
    """A file that only grows, and whose new bytes can be taken away."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._position = 0

    def writable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """Return how many bytes were written in all."""
        return self._position

    def write(self, data: Any) -> int:
        """Append."""
        self._parts.append(bytes(data))
        self._position += len(self._parts[-1])
        return len(self._parts[-1])

    def take(self) -> bytes:
        """Return what was written since the last time."""
        parts, self._parts = self._parts, []
        return b"".join(parts)


class _Origin:
    """Where the rows of a table come from: every model, version and setting once."""

    def __init__(self) -> None:
        self._seen: dict[str, dict[str, Any]] = {}

    def note(self, document: Document) -> Document:
        """Add a document's origin, if it has a result, and return the document."""
        if document.get("rois"):
            provenance = document.get("provenance", {})
            for member, found in (
                ("models", document.get("model")),
                ("versions", provenance.get("versions")),
                ("radiomics_settings_sha256", provenance.get("radiomics_settings_sha256")),
                ("radiomics_engines", provenance.get("radiomics_engine")),
            ):
                if found is not None:
                    self._seen.setdefault(member, {}).setdefault(json.dumps(found, sort_keys=True), found)
        return document

    def document(self) -> dict[str, Any]:
        """Return lists of what was noted, each in the order of first appearance."""
        return {member: list(values.values()) for member, values in self._seen.items()}
