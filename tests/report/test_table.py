import csv
import io
import math
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.report.table import to_csv


def build_document(case_id: str | None = "case-1", features: dict[str, float | None] | None = None) -> dict[str, Any]:
    return {
        "id": "0" * 32,
        "case_id": case_id,
        "model": {"name": "small-ct", "version": "1.0.0", "sha256": "f" * 64},
        "rois": [
            {
                "roi": {"name": name, "voxels": 12, "volume_mm3": 18.5, "centroid_mm": [], "bounding_box": []},
                "features": features or {"original_b": 0.1, "original_a": None, "deep_0000": -2.5},
                "predictions": [
                    {
                        "target": "stage",
                        "class": "II",
                        "probabilities": {"I": 0.25, "II": 0.75},
                        "in_distribution": False,
                    }
                ],
            }
            for name in ("1", "2")
        ],
    }


def read(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline="")))


def test_there_is_one_row_per_region_with_columns_in_order():
    header, *rows = read(to_csv([build_document()]))
    assert header == [
        *("case_id", "job_id", "model", "roi", "voxels", "volume_mm3"),
        *("original_b", "original_a", "deep_0000"),
        *("stage", "stage_probability_I", "stage_probability_II", "stage_in_distribution"),
    ]
    assert rows[0] == [
        *("case-1", "0" * 32, "small-ct@1.0.0", "1", "12", "18.5"),
        *("0.1", "", "-2.5"),
        *("II", "0.25", "0.75", "false"),
    ]
    assert [row[3] for row in rows] == ["1", "2"]


def test_cases_with_other_features_share_one_table():
    header, *rows = read(to_csv([build_document(features={"a": 1.0}), build_document(features={"b": 2.0, "a": 3.0})]))
    assert header[6:8] == ["a", "b"]
    assert [row[6:8] for row in rows] == [["1.0", ""], ["1.0", ""], ["3.0", "2.0"], ["3.0", "2.0"]]


def test_a_document_without_a_result_has_no_row():
    assert len(read(to_csv([{"id": "x", "status": "failed"}]))) == 1
    assert len(read(to_csv([]))) == 1


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_survive_bit_for_bit(value):
    _, row, _ = read(to_csv([build_document(features={"a": value})]))
    assert float(row[6]) == value
    assert math.copysign(1, float(row[6])) == math.copysign(1, value)


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_text_that_a_spreadsheet_would_run_is_defused(text):
    assert read(to_csv([build_document(case_id=text)]))[1][0] == "'" + text


@pytest.mark.parametrize("text", ['a,"b"', "a;b", "a\nb", "  a", "ä"])
def test_other_text_is_kept(text):
    assert read(to_csv([build_document(case_id=text)]))[1][0] == text


def test_the_module_is_light():
    code = "import sys, service.report.table; sys.exit(bool({'numpy', 'PIL', 'SimpleITK'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
