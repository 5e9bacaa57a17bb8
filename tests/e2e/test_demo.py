import csv
import subprocess
import sys
from pathlib import Path

from service.config import BUILT_IN_MODELS
from tests.e2e.running import environment


def _demo(folder: Path, **settings: object) -> subprocess.CompletedProcess[str]:
    (folder / "tmp").mkdir()
    given = environment(**settings) | {"TMPDIR": str(folder / "tmp")}
    command = [sys.executable, "-m", "service.demo"]
    return subprocess.run(command, cwd=folder, env=given, capture_output=True, text=True, check=False, timeout=120)


def test_the_demonstration_shows_a_case_a_prediction_and_a_refusal_and_leaves_nothing(tmp_path: Path) -> None:
    shown = _demo(tmp_path, models=BUILT_IN_MODELS)
    assert shown.returncode == 0, shown.stdout + shown.stderr
    for expected in ("is ready after", "original_shape_", "deep_0000", "truth: kind", "DEMONSTRATION", "empty-roi"):
        assert expected in shown.stdout
    assert "no process is left" in shown.stdout
    assert list((tmp_path / "tmp").iterdir()) == []
    with (tmp_path / ".radfuse" / "demo" / "features.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["case_id"] == "phantom-0001"
    assert (tmp_path / ".radfuse" / "demo" / "preview.png").read_bytes().startswith(b"\x89PNG")


def test_a_demonstration_that_cannot_start_says_why_and_fails(tmp_path: Path) -> None:
    shown = _demo(tmp_path, models=tmp_path / "nothing")
    assert shown.returncode == 1
    assert "no model bundle" in shown.stdout
    assert list((tmp_path / "tmp").iterdir()) == []
