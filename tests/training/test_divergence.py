from pathlib import Path

import numpy as np
import pytest

from training.config import read_config
from training.loop import DivergedError
from training.pretrain import Run, pretrain

CONFIG = read_config(Path(__file__).with_name("tiny.toml"))


def test_a_training_whose_loss_is_no_number_ends_at_once_and_says_what_to_change():
    crops = np.random.default_rng(0).normal(size=(32, 2, 16, 16, 16)).astype(np.float32)
    settings = CONFIG.pretraining.model_copy(update={"objective": "vicreg", "learning_rate": 1e12, "warmup_epochs": 0})
    with pytest.raises(DivergedError, match=r"epoch \d+: the loss is (nan|inf); lower \[pretraining\] learning_rate"):
        pretrain(crops, CONFIG.encoder, settings, seed=1, run=Run(device="cpu", progress=False))
