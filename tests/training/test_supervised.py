import numpy as np
import pytest
import torch

from tests.training.pretrain_process import SHAPE, make_crops, make_settings
from training.embedding import embed
from training.loop import Run
from training.supervised import fit_supervised

QUIET = Run(device="cpu", progress=False)
DENSE = (np.arange(60) % 5 == 0).astype(np.intp)  # one in five
CROPS = make_crops(60)
CROPS[:, 0] = np.where(CROPS[:, 1] > 0, np.where(DENSE, 0.7, -0.4)[:, None, None, None], -0.8)


def fit(labels=DENSE, crops=CROPS, run=QUIET, epochs=25):
    return fit_supervised(crops, labels, SHAPE, make_settings(epochs=epochs), seed=1, run=run)


def test_it_learns_a_visible_class_and_finds_the_minority():
    fitted = fit()
    probabilities = fitted.probabilities(CROPS)
    assert probabilities.shape == (60, 2)
    assert probabilities.sum(axis=1) == pytest.approx(np.ones(60))
    found = probabilities.argmax(axis=1)
    assert np.mean(found[DENSE == 1] == 1) >= 0.9
    assert np.mean(found[DENSE == 0] == 0) >= 0.9
    assert fitted.epochs[-1].loss < fitted.epochs[0].loss
    assert embed(fitted.encoder, CROPS).shape == (60, SHAPE.dimension)


def test_classes_weigh_the_same_whatever_their_size():
    """With crops that tell nothing the loss is least where both are equally probable, not where one is frequent."""
    blank = np.zeros_like(CROPS)
    probabilities = fit(crops=blank, epochs=10).probabilities(blank)
    assert probabilities.mean(axis=0) == pytest.approx([0.5, 0.5], abs=0.1)


def test_it_is_repeated_bit_for_bit_and_goes_on_from_its_checkpoint(tmp_path):
    whole = fit(epochs=4)
    fit(epochs=4, run=Run(device="cpu", progress=False, folder=tmp_path))
    again = fit(epochs=4, run=Run(device="cpu", progress=False, folder=tmp_path, resume=True))
    assert whole.epochs == again.epochs
    assert torch.equal(whole.linear.weight, again.linear.weight)
    assert np.array_equal(whole.probabilities(CROPS), again.probabilities(CROPS))
