"""A result as Parquet and as a DICOM report, over HTTP."""

import io
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from highdicom.sr import srread
from pyarrow import parquet

from service.api import representations
from service.api.representations import list_representations, render_report
from service.report.structured_report import write_report
from tests.report.documents import build_document, build_references
from tests.serving import FEATURES, Service, process, result_document

PARQUET, DICOM = "application/vnd.apache.parquet", "application/dicom"


def succeed(service: Service, references: dict[str, Any] | None = None, **fields: Any) -> str:
    """Have a job end well and return its id."""
    job_id = str(service.accepted(**fields)["id"])
    document = result_document() | ({"references": references} if references else {})
    assert service.context.ledger.finish(service.claim(job_id), document)
    return job_id


def test_parquet_has_a_typed_row_per_region(service: Service) -> None:
    job_id = succeed(service, case_id="case-7")
    answer = service.get(f"/features/{job_id}", Accept=PARQUET)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, PARQUET)
    assert answer.headers["Content-Disposition"] == f'attachment; filename="features-{job_id}.parquet"'
    table = parquet.read_table(io.BytesIO(answer.content))
    (row,) = table.to_pylist()
    assert table.column_names[0] == "case_id"
    assert (row["case_id"], row["job_id"]) == ("case-7", job_id)
    assert {name: row[name] for name in FEATURES} == FEATURES
    assert table.schema.field("original_shape_MeshVolume").metadata[b"ibsi"] == b"RNU0"
    assert json.loads(parquet.read_metadata(io.BytesIO(answer.content)).metadata[b"radfuse"])["models"]


def test_parquet_and_csv_have_the_same_columns(service: Service) -> None:
    job_id = succeed(service)
    header = service.get(f"/features/{job_id}", Accept="text/csv").text.splitlines()[0]
    table = parquet.read_table(io.BytesIO(service.get(f"/features/{job_id}", Accept=PARQUET).content))
    assert ",".join(table.column_names) == header


def test_a_report_points_at_the_source_and_reads_back(service: Service) -> None:
    job_id = succeed(service, build_references(), case_id="case-7")
    answer = service.get(f"/features/{job_id}", Accept=DICOM)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, DICOM)
    assert answer.headers["Content-Disposition"] == f'attachment; filename="features-{job_id}.dcm"'
    report = srread(io.BytesIO(answer.content))
    (group,) = report.content.get_volumetric_roi_measurement_groups()
    assert (report.PatientID, report.StudyInstanceUID, group.tracking_identifier) == ("case-7", "1.2.3", "1")
    values = {one.name.value: one.value for one in group.get_measurements()}
    assert (values["Q4LE"], values["deep_0000"]) == (-12.5, 0.25)
    assert service.get(f"/features/{job_id}", Accept=DICOM).content == answer.content


def test_only_a_report_shows_identifiers(service: Service) -> None:
    job_id = succeed(service, build_references())
    for accept in ("application/json", "text/csv", PARQUET):
        answer = service.get(f"/features/{job_id}", Accept=accept)
        assert answer.status_code == 200
        assert b"1.2.3" not in answer.content
        assert b"references" not in answer.content


def test_a_case_that_was_no_dicom_has_no_report(service: Service) -> None:
    answer = service.get(f"/features/{succeed(service)}", Accept=DICOM)
    assert (answer.status_code, answer.json()["type"]) == (406, "/problems/not-representable")
    assert "must point at its source" in answer.json()["detail"]


def test_a_pseudonym_too_long_for_a_patient_id_has_no_report(service: Service) -> None:
    answer = service.get(f"/features/{succeed(service, build_references(), case_id='x' * 65)}", Accept=DICOM)
    assert (answer.status_code, answer.json()["got"], answer.json()["limit"]) == (406, 65, 64)


@pytest.mark.parametrize("accept", [PARQUET, DICOM])
def test_tables_and_reports_need_a_success(service: Service, accept: str) -> None:
    job = service.accepted()
    answer = service.get(f"/features/{job['id']}", Accept=accept)
    assert (answer.status_code, answer.json()["job_status"]) == (409, "queued")


@pytest.mark.parametrize("accept", [PARQUET, DICOM])
def test_what_was_seen_is_not_made_again(service: Service, accept: str) -> None:
    job_id = succeed(service, build_references())
    etag = service.get(f"/features/{job_id}").headers["ETag"]
    seen = service.get(f"/features/{job_id}", **{"Accept": accept, "If-None-Match": etag})
    assert (seen.status_code, seen.content) == (304, b"")


def test_a_report_that_cannot_be_built_is_the_service_s_fault(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    references = build_references()
    references["regions"] *= 2  # more than the result has
    answer = service.get(f"/features/{succeed(service, references)}", Accept=DICOM)
    assert (answer.status_code, answer.json()["type"]) == (500, "/problems/internal-error")
    monkeypatch.setattr(representations, "REPORT_SECONDS", 0.01)
    answer = service.get(f"/features/{succeed(service, build_references())}", Accept=DICOM)
    assert answer.status_code == 500


def test_an_installation_without_highdicom_offers_no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(representations, "find_spec", lambda name: None if name == "highdicom" else find_spec(name))
    assert list(list_representations.__wrapped__(None)) == ["text/csv", PARQUET]
    assert list(list_representations.__wrapped__(Path(sys.executable))) == ["text/csv", PARQUET, DICOM]


def test_an_environment_of_its_own_may_build_reports(tmp_path: Path) -> None:
    """One with highdicom and without the service's dependencies, as the API's container has it."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o700)
    document = build_document(references=build_references())
    assert render_report(document, python) == write_report(document)


def test_building_a_report_needs_no_dependency_of_the_service_but_highdicom() -> None:
    code = (
        "import sys, service.report.structured_report\n"
        "print(sorted({'pydantic', 'fastapi', 'sqlalchemy', 'celery', 'SimpleITK'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "[]\n"


def test_the_process_has_neither_pyarrow_nor_imaging_libraries_until_asked(tmp_path: Path, models: Path) -> None:
    with process(tmp_path / "home", models) as running:
        running.http.get("/readyz")
        loaded = Path(f"/proc/{running.popen.pid}/maps").read_text()
    for library in ("libarrow", "numpy", "pydicom", "SimpleITK"):
        assert library not in loaded
