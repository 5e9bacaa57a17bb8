"""From a folder of cases to an encoder's file, by the command line."""

import csv
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from training.brain_phantoms import write_brats_tree
from training.cli import app

RELEASE = Path(__file__).with_name("tiny_release.toml")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_brats_tree(folder / "labelled", 10, 0)
    return folder


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """The release's configuration with one source, less what an experiment does not know."""
    text = RELEASE.read_text()
    start, end = text.index('[[sources]]\nreader = "manifest"'), text.index("[preprocessing]")
    text = text[:start] + text[end:]
    text = text[: text.index("[release]")] + text[text.index("[[sources]]") : text.index("[[targets]]")]
    path = tmp_path_factory.mktemp("config") / "experiment.toml"
    path.write_text(text)
    return path


def call(command, config, data, *others):
    return CliRunner().invoke(
        app, [command, str(config), *others, "--data", str(data), "--cache", str(data / "cache"), "--processes", "1"]
    )


@pytest.fixture(scope="module")
def made(config, data, tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    result = call("pretrain", config, data, "--out", str(out), "--device", "cpu")
    assert result.exit_code == 0, result.output
    return out, result


def test_pretraining_writes_what_it_found(made):
    out, result = made
    with (out / "epochs.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["number"] for row in rows] == ["0", "1"]
    assert f"loss {float(rows[-1]['loss']):.4f}" in result.stdout
    assert list(out.glob("events.out.tfevents.*"))


def test_a_finished_run_is_resumed_to_the_same_end(made, config, data):
    out, result = made
    again = call("pretrain", config, data, "--out", str(out), "--device", "cpu", "--resume")
    assert again.stdout == result.stdout


def test_the_encoder_is_exported_and_compared(made, config, data):
    out, _ = made
    result = call("export", config, data, str(out))
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["parity_relative"] <= 1e-4
    assert (out / "encoder.onnx").stat().st_size > 1000


def test_another_configuration_is_refused(made, config, data, tmp_path):
    out, _ = made
    other = tmp_path / "other.toml"
    other.write_text(config.read_text().replace("seed = 3", "seed = 4", 1))
    for result in (
        call("export", other, data, str(out)),
        call("pretrain", other, data, "--out", str(out), "--device", "cpu", "--resume"),
    ):
        assert result.exit_code == 2
        assert "other settings" in result.stderr
