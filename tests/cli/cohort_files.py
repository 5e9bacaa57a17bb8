"""Tables of cases, and the files they name."""

import csv
import io
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.build import build_image, build_mask, write_nifti
from tests.e2e.running import environment


def write_case(folder: Path, name: str, seed: int = 0) -> dict[str, str]:
    """Write an image and a mask; returns their cells."""
    image = build_image(seed=seed)
    write_nifti(folder / f"{name}_image.nii", image)
    write_nifti(folder / f"{name}_mask.nii", build_mask(image.geometry))
    return {"Image": f"{name}_image.nii", "Mask": f"{name}_mask.nii"}


def write_table(folder: Path, rows: Sequence[Mapping[str, str]], name: str = "cases.csv") -> Path:
    """Write a table with the columns of its first row."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    (folder / name).write_text(text.getvalue())
    return folder / name


def read_rows(output: Path) -> list[dict[str, str]]:
    """The rows of a table of results."""
    with output.open(newline="") as file:
        return list(csv.DictReader(file))


def start(folder: Path, *arguments: object, **settings: object) -> subprocess.Popen[str]:
    """Start `radfuse extract-cohort` in a folder, as a process of its own whose standard error can be read."""
    command = [sys.executable, "-m", "service.cli", "extract-cohort", *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=folder, env=environment(**settings), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def run(folder: Path, *arguments: object, **settings: object) -> tuple[int, str]:
    """Run it to its end; returns the exit status and everything that was printed."""
    with start(folder, *arguments, **settings) as process:
        out, err = process.communicate(timeout=100)
    return process.returncode, out + err


def read_until(process: subprocess.Popen[str], words: str) -> None:
    """Read its standard error until it has said something."""
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if words in line:
            return
    raise AssertionError("".join(said))
