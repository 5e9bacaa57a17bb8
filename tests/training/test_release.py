"""A release on phantoms in the layout of BraTS, from files to a bundle that the service runs."""

import csv
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
from typer.testing import CliRunner

from service.bundle import ModelBundle
from service.errors import BundleDamaged
from service.imaging.guard import Limits
from service.imaging.reader import CaseFiles, read_case
from service.pipeline import extract
from training.brain_phantoms import GRADES, make_glioma, write_brats_tree
from training.cli import app
from training.config import ConfigError
from training.release import release
from training.release_config import read_release

CONFIG = Path(__file__).parent / "tiny_release.toml"
LIMITS = Limits(decoded_bytes=2**28, voxels=2**26, files=8)
FIRST = next(seed for seed in range(100) if {make_glioma(seed + at).grade for at in range(3)} == set(GRADES))


def grades(first, count):
    return [make_glioma(seed).grade for seed in range(first, first + count)]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Labelled cases enough for two folds of each grade, and two more whose labels are to be ignored."""
    folder = tmp_path_factory.mktemp("data")
    count = next(count for count in range(6, 60) if min(map(grades(FIRST, count).count, GRADES)) >= 4)
    write_brats_tree(folder / "labelled", count, FIRST)
    write_brats_tree(folder / "more", 4, FIRST + 100)
    cases = sorted((folder / "more").rglob("BraTS19_*_1"))
    with (folder / "more" / "cases.csv").open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["case", "patient", "site", "image.t1ce", "image.flair", "mask", "roi", "label.grade"])
        for case in cases:
            place = case.relative_to(folder / "more")
            files = [str(place / f"{case.name}_{part}.nii.gz") for part in ("t1ce", "flair", "seg")]
            table.writerow([case.name, case.name, "more", *files, "2", "no grade at all"])
    return folder


@pytest.fixture(scope="module")
def made(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("models") / "tiny-mri"
    (out / "report").mkdir(parents=True)
    (out / "report" / "report.md").write_text("kept")
    bundle = release(read_release(CONFIG), data, out, data / "cache", processes=1)
    return bundle, out


def test_the_service_loads_and_runs_it_on_several_channels(made, data):
    bundle, _ = made
    case_folder = next((data / "labelled").rglob("BraTS19_*_1"))
    images = {channel: [case_folder / f"{case_folder.name}_{channel}.nii.gz"] for channel in ("t1ce", "flair")}
    files = CaseFiles(images=images, mask=[case_folder / f"{case_folder.name}_seg.nii.gz"])
    case = read_case(files, roi="2", resample_mask=False, limits=LIMITS, case_id=None)
    (region,) = extract(case, bundle).regions
    (prediction,) = region.predictions
    assert prediction.target == "grade"
    assert set(prediction.probabilities) == {"LGG", "HGG"}
    assert prediction.demonstration
    assert len(region.features.names) == 2 * 107 + 6
    assert region.features.names[0].startswith("t1ce_original_")


def test_card_holds_sources_numbers_with_intervals_references_and_limits(made):
    bundle, out = made
    card = (out / bundle.manifest.card.file).read_text()
    for stated in (
        "A demonstration",
        "| radiomics |",
        "| fused |",
        "| volume only |",
        "| majority class |",
        "Everything is drawn.",
        "Anything at all.",
        "report/report.md",
        CONFIG.read_text().split('command = "')[1].split('"')[0],
    ):
        assert stated in card
    assert "sensitivity" in card
    assert "unlabelled" not in card


def test_other_files_in_the_folder_stay(made):
    _, out = made
    assert (out / "report" / "report.md").read_text() == "kept"


def test_second_run_gives_the_same_files(made, data, tmp_path):
    bundle, out = made
    again = release(read_release(CONFIG), data, tmp_path / "tiny-mri", data / "cache", processes=1)
    assert again.sha256 == bundle.sha256
    for part in (bundle.manifest.encoder, *bundle.manifest.heads, bundle.manifest.card):
        assert (tmp_path / "tiny-mri" / part.file).read_bytes() == (out / part.file).read_bytes()


def call(command, *arguments, config=CONFIG, data):
    places = ("--data", str(data), "--cache", str(data / "cache"), "--processes", "1")
    return CliRunner().invoke(app, [command, str(config), *map(str, arguments), *places])


@pytest.fixture(scope="module")
def pretrained(data, tmp_path_factory):
    """The folder of a pretraining by the release's configuration, exported."""
    run = tmp_path_factory.mktemp("run")
    for command, arguments in (("pretrain", ("--out", run, "--device", "cpu")), ("export", (run,))):
        outcome = call(command, *arguments, data=data)
        assert outcome.exit_code == 0, outcome.output
    return run


def test_pretrain_export_and_fit_heads_make_the_bundle_that_release_makes(made, pretrained, data, tmp_path):
    bundle, out = made
    outcome = call("fit-heads", pretrained, tmp_path / "tiny-mri", data=data)
    assert outcome.exit_code == 0, outcome.output
    files = {path.name for path in out.iterdir() if path.is_file()}
    assert files == {path.name for path in (tmp_path / "tiny-mri").iterdir()}
    for name in files:
        assert (tmp_path / "tiny-mri" / name).read_bytes() == (out / name).read_bytes(), name
    assert ModelBundle.load(tmp_path / "tiny-mri", device="cpu").sha256 == bundle.sha256


def test_heads_are_fitted_anew_on_the_same_encoder(made, pretrained, data, tmp_path):
    _, out = made
    other = tmp_path / "other.toml"
    other.write_text(CONFIG.read_text().replace("[0.01, 0.1]", "[0.5]"))
    outcome = call("fit-heads", pretrained, tmp_path / "tiny-mri", config=other, data=data)
    assert outcome.exit_code == 0, outcome.output
    assert "C = 0.5" in outcome.output
    assert (tmp_path / "tiny-mri" / "encoder.onnx").read_bytes() == (out / "encoder.onnx").read_bytes()


def test_an_encoder_of_another_experiment_or_file_is_refused(pretrained, data, tmp_path):
    other = tmp_path / "other.toml"
    other.write_text(CONFIG.read_text().replace("epochs = 2", "epochs = 3"))
    outcome = call("fit-heads", pretrained, tmp_path / "tiny-mri", config=other, data=data)
    assert (outcome.exit_code, "other settings" in outcome.stderr) == (2, True)
    altered = copytree(pretrained, tmp_path / "run")
    (altered / "encoder.onnx").write_bytes(b"another")
    outcome = call("fit-heads", altered, tmp_path / "tiny-mri", data=data)
    assert (outcome.exit_code, "SHA-256" in outcome.stderr) == (2, True)
    outcome = call("fit-heads", tmp_path, tmp_path / "tiny-mri", data=data)
    assert (outcome.exit_code, "epochs.csv" in outcome.stderr) == (2, True)
    assert not (tmp_path / "tiny-mri").exists()


def test_head_was_fitted_on_labelled_cases_alone(made, data):
    bundle, _ = made
    count = len(list((data / "labelled").rglob("BraTS19_*_1")))
    head = bundle.heads[0].document
    assert head.classes == ["LGG", "HGG"]
    assert f"{count} labelled cases of {count} patients" in (made[1] / "card.md").read_text()


def test_altered_head_is_refused_by_the_service(made, tmp_path):
    _, out = made
    copy = tmp_path / "tiny-mri"
    copy.mkdir()
    for path in out.iterdir():
        if path.is_file():
            (copy / path.name).write_bytes(path.read_bytes())
    head = copy / "head-grade.json"
    head.write_text(head.read_text().replace('"temperature": ', '"temperature": 1'))
    with pytest.raises(BundleDamaged, match="SHA-256"):
        ModelBundle.load(copy, device="cpu")


def test_folder_of_another_name_and_classes_too_rare_are_refused(data, tmp_path):
    config = read_release(CONFIG)
    with pytest.raises(ConfigError, match="tiny-mri"):
        release(config, data, tmp_path / "other", data / "cache", processes=1)
    many = config.model_copy(update={"heads": config.heads.model_copy(update={"folds": 30})})
    with pytest.raises(ConfigError, match="too few for 30 folds"):
        release(many, data, tmp_path / "tiny-mri", data / "cache", processes=1)
    assert not (tmp_path / "tiny-mri").exists()


def test_command_line_says_what_is_wrong_with_a_configuration(tmp_path):
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(CONFIG.read_text().replace("seed = 3", "seed = 3\nsede = 4"))
    outcome = CliRunner().invoke(app, ["release", str(wrong), "tiny-mri", "--data", str(tmp_path)])
    assert outcome.exit_code == 2
    assert "sede" in outcome.output


def test_phantoms_command_leaves_cases_that_are_there_alone(tmp_path):
    arguments = ["phantoms", str(tmp_path / "tree"), "--count", "1"]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    volumes = {path: path.read_bytes() for path in (tmp_path / "tree").rglob("*.nii.gz")}
    assert len(volumes) == 5
    assert CliRunner().invoke(app, arguments).exit_code == 2
    assert all(path.read_bytes() == content for path, content in volumes.items())


def test_exported_embedding_is_that_of_the_crops(made, data):
    bundle, _ = made
    crop = np.zeros((1, 3, 16, 16, 16), np.float32)
    assert bundle.encoder.embed(crop).shape == (1, 6)
    assert not np.array_equal(bundle.encoder.embed(crop), bundle.encoder.embed(crop + 0.5))
