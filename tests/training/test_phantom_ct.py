"""The bundle that is part of the product, as it lies in the repository."""

import json
from pathlib import Path

import numpy as np
import pytest

from service.bundle import ModelBundle
from service.imaging.case import Case
from service.pipeline import extract
from training import example
from training.bundle import extract_example
from training.config import read_config
from training.layouts import LUNG, OFF_ORGAN, UNDEREXPOSED
from training.metrics import Predictions, balanced_accuracy
from training.phantoms import KINDS, make_phantom

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "models" / "phantom-ct"
FRESH_SEED = 5_000_000  # far from every seed that the configuration uses


@pytest.fixture(scope="module")
def bundle():
    return ModelBundle.load(FOLDER, device="cpu")


def predict(bundle, phantom):
    result = extract(Case(None, {"ct": phantom.image}, (phantom.mask,)), bundle)
    (prediction,) = result.regions[0].predictions
    return prediction


def test_it_is_small_and_marked_as_a_demonstration(bundle):
    assert bundle.manifest.demonstration
    assert bundle.manifest.licence == "Apache-2.0"
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 10 * 2**20
    card = (FOLDER / bundle.manifest.card.file).read_text()
    for stated in ("Not for use on patients", "majority class", "volume only", "make bundle"):
        assert stated in card


def test_it_was_made_from_the_configuration_beside_it(bundle):
    config = read_config(ROOT / "training" / "configs" / "phantom-ct.toml")
    assert bundle.manifest.trained_with["configuration_sha256"] == config.sha256()
    assert bundle.manifest.preprocessing == config.preprocessing


def test_the_example_is_the_configured_phantom_and_is_predicted_right(bundle, tmp_path):
    truth = json.loads((FOLDER / example.FOLDER / example.TRUTH).read_text())
    example.write_example(example.make_example(truth["seed"]), tmp_path)
    assert (tmp_path / example.MASK).read_bytes() == (FOLDER / example.FOLDER / example.MASK).read_bytes()
    # Mathematical functions of another C library may differ in their last digit.
    for key, value in json.loads((tmp_path / example.TRUTH).read_text()).items():
        assert truth[key] == (pytest.approx(value, rel=1e-9) if isinstance(value, float) else value)
    (region,) = extract_example(FOLDER).regions
    (prediction,) = region.predictions
    assert prediction.label == truth["kind"]
    assert prediction.in_distribution
    assert prediction.demonstration


def test_it_tells_fresh_phantoms_apart_far_better_than_the_majority_class(bundle):
    phantoms = [make_phantom(FRESH_SEED + index, KINDS[index % 4], LUNG) for index in range(64)]
    predictions = [predict(bundle, phantom) for phantom in phantoms]
    labels = np.array([KINDS.index(phantom.kind) for phantom in phantoms])
    probabilities = np.array([[prediction.probabilities[kind] for kind in KINDS] for prediction in predictions])
    (found,) = balanced_accuracy(Predictions(labels, probabilities), np.ones((1, len(labels))))
    assert found > 0.55  # the majority class: 0.25
    assert sum(not prediction.in_distribution for prediction in predictions) <= 8


@pytest.mark.parametrize("layout", [UNDEREXPOSED, OFF_ORGAN], ids=["underexposed", "off-organ"])
def test_it_flags_what_it_was_not_made_for(bundle, layout):
    flagged = [
        not predict(bundle, make_phantom(FRESH_SEED + seed, layout=layout)).in_distribution for seed in range(10)
    ]
    assert sum(flagged) >= 9
