"""The rows of a table: regions, failures, and what is kept beside them."""

import csv
import io

import pytest

from service.report.columns import Columns
from service.report.table import stream_csv
from tests.report.documents import FEATURES, build_document, build_failure


def read(entries, columns):
    return list(csv.DictReader(io.StringIO("".join(stream_csv(entries, columns)), newline="")))


def test_a_failure_is_a_row_with_its_reason():
    documents = [build_document(rois=("1", "2")), build_failure(), {"case_id": "case-3", "status": "cancelled"}]
    rows = read([(one, {}) for one in documents], Columns.gather(documents, with_problem=True))
    assert [row["case_id"] for row in rows] == ["case-1", "case-1", "case-2", "case-3"]
    assert [row["problem"] for row in rows] == ["", "", "empty-roi: the mask holds no voxel", "cancelled"]
    assert rows[0]["original_shape_MeshVolume"] == "5078.25"
    assert rows[2]["original_shape_MeshVolume"] == ""
    assert rows[2]["model"] == "small-ct@1.0.0"


def test_extra_columns_are_kept_before_the_features():
    document = build_document()
    columns = Columns.gather([document], ["Image", "arm"], with_problem=True)
    (row,) = read([(document, {"Image": "a/b.nii", "arm": None})], columns)
    assert list(row)[5:10] == ["volume_mm3", "Image", "arm", "problem", "original_shape_MeshVolume"]
    assert (row["Image"], row["arm"]) == ("a/b.nii", "")


def test_an_extra_column_of_a_taken_name_is_renamed():
    columns = Columns.gather([build_document()], ["roi", "given_roi", "stage", "problem", "deep_0000"])
    extra = list(columns.names)[6:11]
    assert extra == ["given_roi", "given_given_roi", "given_stage", "given_problem", "given_deep_0000"]
    assert len(set(columns.names)) == len(list(columns.names)) == len(columns)
    assert [column.name for column in columns] == list(columns.names)


def test_columns_are_gathered_from_a_stream_of_documents():
    stream = (build_document(features=features) for features in (FEATURES, {"deep_0002": 1.0}, FEATURES))
    assert Columns.gather(stream).features == (*FEATURES, "deep_0002")


def test_a_result_that_does_not_fit_the_columns_is_an_error():
    columns = Columns.gather([build_document()])
    for document in (build_document(features={"deep_0002": 1.0}), build_document(rois=["1"])):
        document["rois"][0]["predictions"] = [{**document["rois"][0]["predictions"][0], "target": "other"}]
        with pytest.raises(ValueError, match="no column"):
            list(stream_csv([(document, {})], columns))


def test_features_of_another_case_leave_cells_empty():
    columns = Columns.gather([build_document()])
    (row,) = read([(build_document(features={"deep_0001": 2.0}), {})], columns)
    assert (row["deep_0000"], row["deep_0001"]) == ("", "2.0")


def test_images_of_different_units_have_none_in_common():
    documents = [build_document(), build_document()]
    assert Columns.gather(documents).intensity_unit == "[hnsf'U]"
    documents[1]["provenance"]["intensity_unit"] = "g/ml{SUVbw}"
    assert Columns.gather(documents).intensity_unit == "[arb'U]"
