"""A finished bundle on labelled cases: what is told of it is what the service says."""

import csv
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from service.bundle import ModelBundle
from service.heads import Prediction
from service.pipeline import extract
from tests.build import write_nifti_array
from training.arrays import read_record
from training.bundle_evaluation import EVERYWHERE, Judged, judge_cases, score
from training.cli import app
from training.layouts import LUNG
from training.phantoms import make_phantom
from training.readers.manifest import read_manifest

BUNDLE = Path(__file__).parents[2] / "models" / "phantom-ct"


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """Six phantoms, one of them with a class that the bundle does not know, and one line whose region is too small."""
    folder = tmp_path_factory.mktemp("held-out")
    with (folder / "cases.csv").open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["case", "patient", "site", "image.ct", "mask", "label.kind"])
        for number in range(7):
            phantom = make_phantom(9000 + number, layout=LUNG)
            mask = phantom.mask.voxels.astype(np.uint8)
            if number == 6:
                mask[tuple(np.argwhere(mask)[1:].T)] = 0
            write_nifti_array(folder / f"{number}.nii", phantom.image.voxels, phantom.image.geometry.affine)
            write_nifti_array(folder / f"{number}-mask.nii", mask, phantom.image.geometry.affine)
            label = "flat" if number == 5 else phantom.kind
            table.writerow(
                [f"c{number}", f"p{number // 2}", "ab"[number % 2], f"{number}.nii", f"{number}-mask.nii", label]
            )
    return folder / "cases.csv"


@pytest.fixture(scope="module")
def told(manifest, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    arguments = ["evaluate-bundle", str(BUNDLE), "--manifest", str(manifest), "--out", str(out), "--processes", "1"]
    return CliRunner().invoke(app, arguments), out


def rows(path):
    with path.open() as stream:
        return list(csv.DictReader(stream))


def test_predictions_are_those_of_the_service(manifest):
    index, _ = read_manifest(manifest)
    judged, _ = judge_cases(BUNDLE, index)
    bundle = ModelBundle.load(BUNDLE, device="cpu")
    for one in judged[:2]:
        record = next(record for record in index.records if record.case_id == one.case_id)
        (region,) = extract(read_record(record, ["ct"]), bundle).regions
        assert one.prediction == region.predictions[0]
        assert (one.label, one.volume_mm3) == (record.labels["kind"], region.mask.volume_mm3)


def test_scores_follow_from_the_predictions_that_are_written(told):
    outcome, out = told
    found = {row["case"]: row for row in rows(out / "predictions.csv")}
    right = np.mean([row["label"] == row["predicted"] for row in found.values()])
    scores = {row["metric"]: row for row in rows(out / "scores.csv") if row["site"] == EVERYWHERE}
    assert float(scores["accuracy"]["value"]) == pytest.approx(right)
    assert (scores["accuracy"]["cases"], scores["accuracy"]["patients"]) == ("5", "3")
    assert "kind, all: 5 cases of 3 patients" in outcome.stdout
    assert {row["site"] for row in rows(out / "scores.csv")} == {EVERYWHERE, "a", "b"}


def test_cases_that_are_left_out_are_told_and_change_the_exit_code(told):
    outcome, _ = told
    assert outcome.exit_code == 1
    assert "unknown-class: 1" in outcome.stderr
    assert "c5: kind is 'flat'" in outcome.stderr
    assert "c6: " in outcome.stderr


def test_cases_without_a_class_and_a_folder_that_is_no_bundle_are_refused(manifest, tmp_path):
    unlabelled = tmp_path / "cases.csv"
    unlabelled.write_text(f"case,image.ct,mask\nc0,{manifest.parent}/0.nii,{manifest.parent}/0-mask.nii\n")
    for folder, table, message in ((BUNDLE, unlabelled, "no case of 1"), (tmp_path, manifest, "bundle")):
        outcome = CliRunner().invoke(app, ["evaluate-bundle", str(folder), "--manifest", str(table)])
        assert outcome.exit_code == 2
        assert message in outcome.stderr


def judge(label, probability, volume, number, site="here"):
    said = Prediction("t", "b", {"a": 1 - probability, "b": probability}, True, number % 2 == 0, 1.0, False, "")
    return Judged(f"c{number}", f"p{number}", site, label, volume, said)


def test_measures_that_the_cases_do_not_define_are_left_out():
    lines = [judge("a", 0.2, 10, 0, "x"), judge("b", 0.7, 10, 1, "x"), judge("b", 0.9, 30, 2, "y")]
    everywhere, x, y = score(lines)
    assert everywhere.scores["macro AUC"].value == 1.0
    assert everywhere.volume.value == 0.75  # a tie counts half
    assert everywhere.unlike == 1
    assert x.volume.value == 0.5
    assert y.volume is None
    assert "macro AUC" not in y.scores
    assert "quadratic kappa" in score(lines, ordered=["t"])[0].scores
