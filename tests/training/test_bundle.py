import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from service.bundle import ModelBundle
from service.errors import BundleDamaged
from service.imaging.case import Case
from service.imaging.preprocess import cut_crop
from service.pipeline import extract
from training import example
from training.arrays import Recipe
from training.bundle import make_bundle
from training.cli import app
from training.config import ConfigError, read_config
from training.dataset import build_cohort
from training.layouts import LUNG, SMALL
from training.phantoms import KINDS, make_phantom

TINY = Path(__file__).with_name("tiny.toml")


@pytest.fixture(scope="module", autouse=True)
def _torch_as_it_was():
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """Two runs of one configuration, with one process and with two."""
    config, results = read_config(TINY), []
    for processes in (1, 2):
        out = tmp_path_factory.mktemp(f"run-{processes}") / config.about.name
        results.append((out, make_bundle(config, out, processes)))
    return results


def test_two_runs_give_the_same_bytes(bundles):
    (first, _), (second, _) = bundles
    names = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(second) for path in second.rglob("*") if path.is_file())
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


def test_the_bundle_holds_what_its_manifest_names_and_predicts_its_example(bundles):
    out, result = bundles[0]
    bundle = ModelBundle.load(out, device="cpu")
    assert bundle.manifest.demonstration
    assert bundle.manifest.encoder.parity_relative <= 1e-4
    (region,) = result.regions
    assert region.features.names == tuple(bundle.manifest.feature_names)
    (prediction,) = region.predictions
    assert prediction.demonstration
    assert tuple(prediction.probabilities) == KINDS
    truth = json.loads((out / example.FOLDER / example.TRUTH).read_text())
    assert truth["kind"] == make_phantom(2, layout=example.EXAMPLE_LAYOUT).kind
    assert region.mask.volume_mm3 == pytest.approx(truth["volume_mm3"], rel=0.05)


def test_nothing_of_this_machine_is_in_the_bundle(bundles):
    out, _ = bundles[0]
    for path in out.rglob("*"):
        if path.is_file():
            assert str(Path(__file__).parents[2]).encode() not in path.read_bytes(), path.name


def test_an_altered_encoder_is_refused(bundles, tmp_path):
    copy = tmp_path / "tiny-ct"
    copy.mkdir()
    for path in bundles[0][0].iterdir():
        if path.is_file():
            (copy / path.name).write_bytes(path.read_bytes())
    with (copy / "encoder.onnx").open("r+b") as file:
        file.write(b"\x00")
    with pytest.raises(BundleDamaged, match=r"encoder\.onnx"):
        ModelBundle.load(copy)


def test_the_cache_of_training_holds_the_very_crops_of_the_pipeline(bundles, tmp_path):
    bundle = ModelBundle.load(bundles[0][0], device="cpu")
    manifest = bundle.manifest
    recipe = Recipe(("ct",), manifest.preprocessing, "original")
    cohort = build_cohort(range(5), recipe, SMALL, tmp_path / "crops.npy", processes=1)
    assert isinstance(cohort.crops, np.memmap)
    for seed in range(5):
        phantom = make_phantom(seed, layout=SMALL)
        case = Case(None, {"ct": phantom.image}, (phantom.mask,))
        crop = cut_crop(case.images, case.masks[0], manifest.channels, manifest.preprocessing)
        assert np.array_equal(cohort.crops[seed], crop)
        (region,) = extract(case, bundle).regions
        radiomics, deep = np.split(region.features.values, [len(cohort.feature_names)])
        assert np.array_equal(radiomics, cohort.radiomics[seed], equal_nan=True)
        embedding = bundle.encoder.embed(np.array(cohort.crops[seed : seed + 1]))[0]
        assert np.array_equal(deep, embedding)


def test_a_folder_of_another_name_is_refused_before_anything_is_done(tmp_path):
    with pytest.raises(ConfigError, match="tiny-ct"):
        make_bundle(read_config(TINY), tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("threads = 1", "threads = 1\nthreds = 2", "threds"),
        ("crop_voxels = 16", "crop_voxels = 18", "crop_voxels"),
        ("epochs = 2", "epochs = 0", "epochs"),
        ("[preprocessing.windows.ct]", "[preprocessing.windows.mr]", "windows"),
        ("seed = 3", "seed = ", "tiny"),
    ],
)
def test_a_wrong_configuration_is_refused_by_name(tmp_path, old, new, named):
    path = tmp_path / "tiny.toml"
    path.write_text(TINY.read_text().replace(old, new, 1))
    result = CliRunner().invoke(app, ["bundle", str(path), str(tmp_path / "tiny-ct")])
    assert result.exit_code == 2
    assert named in result.stderr


def test_example_files_are_written_alike_every_time(tmp_path):
    phantom = make_phantom(1, layout=replace(LUNG, shape=(32, 32, 24), radius_mm=(4.0, 5.0)))
    for folder in ("a", "b"):
        example.write_example(phantom, tmp_path / folder)
    for name in (example.IMAGE, example.MASK, example.TRUTH):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
