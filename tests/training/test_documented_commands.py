"""Every command of docs/training.md, in order, on drawn cases and with the configurations that ship, made small."""

import csv
import re
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from service.bundle import ModelBundle
from tests.build import write_nifti_array
from tests.training.trees import write_glioma, write_lung1_table, write_name_mapping
from training.cli import app
from training.layouts import SMALL
from training.phantoms import make_phantom
from training.readers.lung1 import CLASSES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "training.md").read_text()
SMALLER = {
    "threads": "1",
    "crop_voxels": "8",
    "widths": "[4, 8]",
    "dimension": "6",
    "epochs": "2",
    "batch": "8",
    "width": "16",
    "folds": "2",
    "inverse_penalties": "[0.01, 0.1]",
    "bootstrap": "100",
    "clusters": "2",
    "refresh_epochs": "1",
    "seeds": "[1]",
    "methods": '["plain", "se-a"]',
}


def sections():
    return dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))


def commands(section):
    return re.findall(r"^    radfuse-train (.*)$", sections()[section], re.MULTILINE)


def make_smaller(path):
    """The configuration with other numbers for the same keys."""
    text = path.read_text()
    for key, value in SMALLER.items():
        text = re.sub(rf"^{key} = .*$", f"{key} = {value}", text, flags=re.MULTILINE)
    return text


def run(command, folder):
    """Run a command of the page below `folder`; return what it says."""
    words = command.replace("FOLDER", str(folder)).replace("models/", f"{folder}/models/").split()
    for number, word in enumerate(words):
        if word.startswith("training/configs/"):
            words[number] = str(folder / Path(word).name)
            Path(words[number]).write_text(make_smaller(ROOT / word))
    if words[0] == "phantoms":
        words += ["--count", "1"]
    if words[0] not in ("phantoms", "check"):
        words += ["--processes", "1"]
    if "--data" in words:
        words += ["--cache", str(folder / "cache")]
    outcome = CliRunner().invoke(app, words)
    assert outcome.exit_code == 0, (words, outcome.output, outcome.exception)
    return outcome.stdout


def write_phantom(seed, image, mask):
    """Write a phantom as NIfTI; return the kind of its lesion."""
    phantom = make_phantom(seed, layout=SMALL)
    image.parent.mkdir(parents=True, exist_ok=True)
    write_nifti_array(image, phantom.image.voxels.astype("int16"), phantom.image.geometry.affine)
    write_nifti_array(mask, phantom.mask.voxels.astype("uint8"), phantom.image.geometry.affine)
    return phantom.kind


def write_manifest(path, seeds):
    """Write a CSV of phantoms whose outcome is whether they are part-solid or spiculated."""
    with path.open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["case", "patient", "site", "image.ct", "mask", "label.outcome"])
        for seed in seeds:
            names = [f"images/{seed}-{part}.nii" for part in ("ct", "mask")]
            kind = write_phantom(seed, *(path.parent / name for name in names))
            table.writerow([seed, f"p{seed}", "here", *names, "no" if kind in ("smooth", "lobulated") else "yes"])


def write_small_brats(folder):
    """Put small cases, four of each grade, in place of what is there, and their grades into the table."""
    shutil.rmtree(folder)
    grades = {f"BraTS19_{seed}_1": ("HGG", "LGG")[seed % 2] for seed in range(8)}
    for seed, (name, grade) in enumerate(grades.items()):
        write_glioma(folder / grade / name, seed)
    rows = [{"Grade": grade, "BraTS_2019_subject_ID": name} for name, grade in grades.items()]
    write_name_mapping(folder / "name_mapping.csv", rows)


def test_brats(tmp_path):
    drawn, *others = commands("From BraTS")
    run(drawn, tmp_path)
    write_small_brats(tmp_path / "brats")  # what was drawn is as large as the brain
    assert [run(command, tmp_path) for command in others]
    bundle = ModelBundle.load(tmp_path / "models" / "brats-mri", device="cpu")
    assert bundle.manifest.channels == ["t1", "t1ce", "t2", "flair"]


def test_lung1(tmp_path):
    patients = [f"LUNG1-{number:03d}" for number in range(1, 17)]
    root = tmp_path / "NSCLC-Radiomics"
    for seed, patient in enumerate(patients):
        write_phantom(seed, root / patient / "ct.nii", root / patient / "gtv.nii")
    write_lung1_table(root / "clinical.csv", [(name, 1, CLASSES[at % 4]) for at, name in enumerate(patients)])
    said = [run(command, tmp_path) for command in commands("From Lung1 (NSCLC-Radiomics)")]
    assert "16 cases of 16 patients" in said[0]
    assert [head.document.classes for head in ModelBundle.load(tmp_path / "models" / "lung1-ct").heads] == [[*CLASSES]]


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    write_manifest(folder / "cases.csv", range(24))
    write_manifest(folder / "held-out.csv", range(100, 108))
    return folder


def test_a_table_of_ones_own_cases_a_held_out_one_and_a_study(own):
    for command in commands("From a table of your own"):
        run(command, own)
    (said,) = [run(command, own) for command in commands("On cases that it has not seen")]
    assert "outcome, all: 8 cases of 8 patients" in said
    assert (own / "held-out" / "scores.csv").exists()
    assert [run(command, own) for command in commands("Is it any good?")]
    assert "deep, se-a" in (own / "report" / "report.md").read_text()


def test_every_command_of_the_page_is_run_here():
    run_here = ("From BraTS", "From Lung1 (NSCLC-Radiomics)", "From a table of your own")
    run_here += ("On cases that it has not seen", "Is it any good?")
    assert [title for title in sections() if commands(title)] == [*run_here]
