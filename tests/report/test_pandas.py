"""The client's result as a data frame."""

import csv
import io
import sys

import pandas
import pytest

from service.client import FeatureVectorResult
from service.errors import PackageMissing
from service.report.table import to_csv
from tests.report.documents import FEATURES, build_document


def test_a_result_becomes_a_frame_with_the_table_s_columns_and_values():
    document = build_document(rois=("1", "2"))
    frame = FeatureVectorResult.model_validate(document).to_pandas()
    assert list(frame.columns) == next(csv.reader(io.StringIO(to_csv([document]))))
    assert list(frame["roi"]) == ["1", "2"]
    assert frame["case_id"].tolist() == ["case-1", "case-1"]
    for name, value in FEATURES.items():
        assert frame[name].isna().all() if value is None else (frame[name] == value).all()
    assert frame["stage"].tolist() == ["II", "II"]
    assert frame["stage_probability_II"].tolist() == [0.75, 0.75]
    assert pandas.api.types.is_float_dtype(frame["deep_0000"])


def test_without_pandas_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(PackageMissing, match=r"pip install 'radfuse\[pandas\]'"):
        FeatureVectorResult.model_validate(build_document()).to_pandas()
