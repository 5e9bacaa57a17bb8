import json
import re
import socket
import sys
from pathlib import Path

import pytest

from service.cli import main
from service.config import CLIENT_VARIABLES, PREFIX, Settings
from tests.build import build_image, build_mask, write_nifti
from tests.bundle_builder import write_bundle


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in [*(PREFIX + name.upper() for name in Settings.model_fields), *CLIENT_VARIABLES]:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("RADFUSE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_bundle(tmp_path / "models")
    monkeypatch.setenv("RADFUSE_MODELS", str(tmp_path / "models"))
    image = build_image()
    write_nifti(tmp_path / "image.nii", image)
    write_nifti(tmp_path / "mask.nii", build_mask(image.geometry))
    return tmp_path


def _run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["radfuse", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


def test_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(monkeypatch, "--version") == 0
    assert re.fullmatch(r"radfuse \d+\.\d+\.\d+\n", capsys.readouterr().out)


def test_every_setting_is_listed_and_passwords_are_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RADFUSE_REDIS_URL", "redis://user:hunter2@queue.example/0")
    monkeypatch.setenv("RADFUSE_API_KEY", "rf_secret")
    assert _run(monkeypatch, "settings") == 0
    out = capsys.readouterr().out
    for name in Settings.model_fields:
        assert PREFIX + name.upper() in out
    assert "redis://***@queue.example/0" in out
    assert "hunter2" not in out
    assert "rf_secret" not in out


def test_a_misspelt_variable_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("RADFUSE_PROT", "1")
    assert _run(monkeypatch, "settings") == 1
    assert "RADFUSE_PROT" in capsys.readouterr().err


def test_a_key_is_shown_once_listed_and_revoked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(monkeypatch, "keys", "create", "ward 7", "--scope", "submit", "--expires-days", 30) == 0
    secret = capsys.readouterr().out.strip()
    key_id = secret.split("_")[1]
    assert _run(monkeypatch, "keys", "list") == 0
    listed = capsys.readouterr().out
    assert "ward 7" in listed
    assert key_id in listed
    assert secret not in listed
    assert _run(monkeypatch, "keys", "revoke", key_id) == 0
    capsys.readouterr()
    assert _run(monkeypatch, "keys", "revoke", "absent") == 3


def test_an_unknown_scope_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(monkeypatch, "keys", "create", "x", "--scope", "fly") == 3
    assert "submit, read, admin" in capsys.readouterr().err


def test_installed_models_are_listed(
    case: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(monkeypatch, "models") == 0
    out = capsys.readouterr().out
    assert "small-ct@1.0.0" in out
    assert "texture: smooth, rough" in out
    assert "demonstration" in out


def test_a_local_case_is_summarised_and_written_whole(
    case: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = _run(monkeypatch, "extract", "image.nii", "mask.nii", "--local", "--case-id", "p1", "-o", "out.json")
    assert code == 0
    out = capsys.readouterr().out
    assert "original_shape_" in out
    assert "deep_0000" in out
    assert "texture: " in out
    assert "DEMONSTRATION, not for patients" in out
    document = json.loads((case / "out.json").read_text())
    assert document["case_id"] == "p1"
    assert len(document["rois"][0]["features"]) == 107 + 8


def test_a_local_case_takes_a_parameter_file(
    case: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (case / "own.yaml").write_text("featureClass:\n  firstorder: [Mean]\n")
    arguments = ("image.nii", "mask.nii", "--local", "--radiomics", "own.yaml", "-o", "out.csv")
    assert _run(monkeypatch, "extract", *arguments) == 0
    assert "original_firstorder_Mean" in (case / "out.csv").read_text()
    assert "original_glcm" not in (case / "out.csv").read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (("--local", "--roi", "9"), 3, "unknown-roi"),
        (("--local", "--radiomics", "typo"), 3, "presets are full, ibsi"),
        (("--local", "--model", "typo"), 3, "no such model"),
        (("-o", "features.xlsx"), 2, ".parquet, .json or .dcm"),
    ],
)
def test_refusals_are_plain_and_have_their_exit_status(
    arguments: tuple[str, ...],
    code: int,
    reason: str,
    case: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert _run(monkeypatch, "extract", "image.nii", "mask.nii", *arguments) == code
    captured = capsys.readouterr().err
    assert reason in captured
    assert "Traceback" not in captured


def test_a_missing_file_is_wrong_usage(
    case: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(monkeypatch, "extract", "absent.nii", "mask.nii") == 2
    assert "absent.nii" in capsys.readouterr().err


def test_without_a_service_the_exit_status_is_4_and_the_way_out_is_named(
    case: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    assert _run(monkeypatch, "extract", "image.nii", "mask.nii", "--url", f"http://127.0.0.1:{port}") == 4
    message = capsys.readouterr().err
    assert "radfuse up" in message
    assert "--local" in message
