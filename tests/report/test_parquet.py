"""Parquet holds what CSV holds, typed, and says what its columns mean."""

import csv
import io
import json
import subprocess
import sys
import tracemalloc

import pytest
from pyarrow import parquet

from service.report import parquet as module
from service.report.columns import Columns
from service.report.parquet import stream_parquet, to_parquet
from service.report.table import to_csv
from tests.report.documents import FEATURES, build_document, build_failure


def read(content: bytes):
    return parquet.read_table(io.BytesIO(content))


def as_cell(value):
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def test_it_has_the_rows_and_columns_of_the_csv_table():
    documents = [build_document(rois=("1", "2")), build_document(case_id=None)]
    table = read(to_parquet(documents))
    header, *rows = csv.reader(io.StringIO(to_csv(documents), newline=""))
    assert table.column_names == header
    assert table.num_rows == len(rows) == 3
    for name, column in zip(header, zip(*rows, strict=True), strict=True):
        for value, cell in zip(table[name].to_pylist(), column, strict=True):
            assert as_cell(value) == cell


def test_columns_are_typed():
    schema = read(to_parquet([build_document()])).schema
    kinds = {name: str(schema.field(name).type) for name in schema.names}
    assert kinds["case_id"] == kinds["stage"] == "string"
    assert kinds["voxels"] == "int64"
    assert kinds["volume_mm3"] == kinds["deep_0000"] == kinds["stage_probability_I"] == "double"
    assert kinds["stage_in_distribution"] == "bool"


def test_numbers_keep_every_bit_and_undefined_ones_are_null():
    (row,) = read(to_parquet([build_document()])).to_pylist()
    assert {name: row[name] for name in FEATURES} == FEATURES


def test_metadata_tell_units_codes_and_images():
    schema = parquet.read_schema(io.BytesIO(to_parquet([build_document()])))

    def meaning(name):
        return {key.decode(): value.decode() for key, value in schema.field(name).metadata.items() if b":" not in key}

    assert meaning("original_shape_MeshVolume") == {
        "unit": "mm3",
        "ibsi": "RNU0",
        "feature_class": "shape",
        "image_type": "original",
    }
    assert meaning("original_firstorder_Mean")["unit"] == "[hnsf'U]"
    assert "excess" in meaning("original_firstorder_Kurtosis")["ibsi_deviation"]
    assert "ibsi" not in meaning("original_firstorder_Kurtosis")
    assert meaning("wavelet-HLL_glcm_MCC")["image_type"] == "wavelet-HLL"
    assert meaning("deep_0000") == {"unit": "1", "feature_class": "deep"}
    assert meaning("stage_probability_II") == {"target": "stage", "class": "II", "unit": "1"}


def test_the_file_names_model_versions_and_settings_once():
    other = build_document()
    other["model"] = {"name": "small-ct", "version": "1.0.1", "sha256": "e" * 64}
    content = to_parquet([build_document(), other, build_document()])
    origin = json.loads(parquet.read_metadata(io.BytesIO(content)).metadata[b"radfuse"])
    assert [model["version"] for model in origin["models"]] == ["1.0.0", "1.0.1"]
    assert origin["versions"] == [{"radfuse": "0.1.0", "pyradiomics": "3.0.1"}]
    assert origin["radiomics_settings_sha256"] == ["1" * 64]
    assert origin["radiomics_engines"] == ["radfuse"]


def test_failures_and_extra_columns_are_kept():
    documents = [build_document(), build_failure()]
    columns = Columns.gather(documents, ["arm"], with_problem=True)
    content = b"".join(stream_parquet(zip(documents, ({"arm": "A"}, {}), strict=True), columns))
    good, bad = read(content).to_pylist()
    assert (good["arm"], good["problem"]) == ("A", None)
    assert (bad["arm"], bad["problem"], bad["deep_0000"]) == (None, "empty-roi: the mask holds no voxel", None)


def test_no_row_is_a_table_without_rows():
    assert read(to_parquet([])).num_rows == 0


def test_a_long_table_is_written_group_by_group_in_bounded_memory(monkeypatch):
    monkeypatch.setattr(module, "CELLS_PER_GROUP", 2_000)
    features = {f"deep_{number:04d}": float(number) for number in range(190)}
    document = build_document(features=features)
    columns = Columns.gather([document])
    pieces, taken = [], 0

    def entries():
        nonlocal taken
        for _ in range(400):
            taken += 1
            yield document, {}

    tracemalloc.start()
    for piece in stream_parquet(entries(), columns):
        pieces.append(piece)
        assert taken <= 10 * (len(pieces) + 1)  # no more is read ahead than the group that comes next
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(pieces) == 41
    table = read(b"".join(pieces))
    assert table.num_rows == 400
    assert table["deep_0189"].to_pylist() == [189.0] * 400
    assert peak < sum(map(len, pieces)) + 4 * 1024**2


def test_pyarrow_is_imported_only_when_asked():
    code = "import sys, service.report.parquet; sys.exit(bool({'numpy', 'pyarrow'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("text", ["=1+1", 'a,"b"', "ä\n"])
def test_text_is_kept_as_it_is(text):
    assert read(to_parquet([build_document(case_id=text)]))["case_id"].to_pylist() == [text]
