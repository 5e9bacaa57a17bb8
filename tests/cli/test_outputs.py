"""`radfuse extract -o`: every form of a result, made here and by a service."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from highdicom.sr import srread
from pyarrow import parquet

from service.cli import main
from service.config import CLIENT_VARIABLES, PREFIX, Settings
from tests.build import build_image, build_mask, write_dicom_series, write_nifti
from tests.bundle_builder import write_bundle
from tests.imaging.segments import write_seg


@pytest.fixture(autouse=True)
def _case(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One case as NIfTI and as DICOM, and a bundle."""
    for variable in [*(PREFIX + name.upper() for name in Settings.model_fields), *CLIENT_VARIABLES]:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("RADFUSE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RADFUSE_MODELS", str(tmp_path / "models"))
    monkeypatch.chdir(tmp_path)
    write_bundle(tmp_path / "models")
    image = build_image()
    write_nifti(tmp_path / "image.nii", image)
    write_nifti(tmp_path / "mask.nii", build_mask(image.geometry))
    series = write_dicom_series(tmp_path / "series", image)
    write_seg(tmp_path / "mask.seg", series, build_mask(image.geometry).voxels[..., np.newaxis])


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["radfuse", "extract", *map(str, arguments), "--local", "--case-id", "p1"])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


def test_a_dicom_case_is_written_in_every_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for suffix in ("parquet", "json", "dcm"):
        assert run(monkeypatch, "series", "mask.seg", "-o", f"out.{suffix}") == 0
    (row,) = parquet.read_table(tmp_path / "out.parquet").to_pylist()
    document = json.loads((tmp_path / "out.json").read_text())
    assert "references" not in document
    features = document["rois"][0]["features"]
    assert {name: row[name] for name in features} == features
    report = srread(tmp_path / "out.dcm")
    (group,) = report.content.get_volumetric_roi_measurement_groups()
    assert (report.PatientID, report.PatientName) == ("p1", "")
    assert len(group.get_measurements()) == len(features) + 2  # and a probability of each class
    assert b"Planted" not in (tmp_path / "out.dcm").read_bytes()


def test_a_case_that_was_no_dicom_has_no_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "image.nii", "mask.nii", "-o", "out.dcm") == 3
    assert "must point at its source" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out.dcm").exists()
