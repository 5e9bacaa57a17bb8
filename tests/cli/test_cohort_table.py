from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet
import pytest

from service.cohort.cases import read_cases
from service.cohort.journal import Journal
from service.cohort.run import Cohort
from service.cohort.table import write_table
from tests.cli.cohort_files import read_rows
from tests.serving import result_document

PROBLEM = {"type": "/problems/empty-roi", "detail": "the region of interest holds no voxel"}


@pytest.fixture
def cohort(tmp_path: Path) -> Iterator[Cohort]:
    """Three rows: a result, a failure, and one that was not computed."""
    for name in "abc":
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "cases.csv").write_text("Image,Mask,case_id,weight\na,a,p1,7\nb,b,p2,8\nc,c,p3,9\n")
    with Journal(tmp_path / "out.journal") as journal:
        cohort = Cohort(read_cases(tmp_path / "cases.csv"), journal)
        cohort.look({}, {})
        first, second, _ = cohort.tasks.values()
        journal.note(first.fingerprint, True, result_document() | {"id": "j1", "case_id": "of another run"})
        journal.note(second.fingerprint, False, PROBLEM)
        yield cohort


def test_every_row_is_in_the_table_with_its_result_or_its_problem(cohort: Cohort, tmp_path: Path) -> None:
    assert write_table(cohort, tmp_path / "out.csv") == ["small-ct@1.0.0 (000000000000), Radfuse 0.1.0"]
    rows = read_rows(tmp_path / "out.csv")
    assert [row["case_id"] for row in rows] == ["p1", "p2", "p3"]
    assert [row["weight"] for row in rows] == ["7", "8", "9"]
    assert [row["original_firstorder_Mean"] for row in rows] == ["-12.5", "", ""]
    assert [row["problem"].partition(":")[0] for row in rows] == ["", "empty-roi", "not-computed"]
    assert not (tmp_path / "out.csv.part").exists()


def test_parquet_has_the_columns_and_values_of_csv(cohort: Cohort, tmp_path: Path) -> None:
    write_table(cohort, tmp_path / "out.csv")
    write_table(cohort, tmp_path / "out.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "out.parquet")
    rows = read_rows(tmp_path / "out.csv")
    assert table.column_names == list(rows[0])
    assert table["original_firstorder_Mean"].to_pylist() == [-12.5, None, None]
    assert table["weight"].to_pylist() == ["7", "8", "9"]
    assert table["problem"].to_pylist() == [row["problem"] or None for row in rows]


def test_what_failed_is_tried_again_only_when_that_is_asked_for(cohort: Cohort) -> None:
    _, failed, left = cohort.tasks.values()
    assert cohort.pending(retry=False) == [left]
    assert cohort.pending(retry=True) == [failed, left]
    assert [case.line for case, _ in cohort.failures()] == [3, 4]
    assert cohort.done() == 2
