"""One process of a training, for the tests that kill it or start several: folder, then settings as JSON."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import torch

from training.config import EncoderShape, Pretraining
from training.pretrain import Pretrained, Run, fix_randomness, pretrain

SHAPE = EncoderShape(widths=[4, 8], dimension=6)


def make_settings(**changes):
    parts = {"epochs": 6, "batch": 16, "learning_rate": 0.05, "width": 16, "checkpoint_epochs": 1}
    return Pretraining.model_validate(parts | changes)


def make_crops(count=48):
    """Balls of many sizes and densities, and their masks."""
    rng = np.random.default_rng(0)
    axis = np.arange(8) - 3.5
    distance = np.sqrt(axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None, :] ** 2)
    inside = distance[None] < rng.uniform(1, 3.5, count)[:, None, None, None]
    image = np.where(inside, rng.uniform(0, 1, count)[:, None, None, None], -0.8)
    return np.stack([image, inside], axis=1).astype(np.float32)


def train(settings: Pretraining, **where) -> Pretrained:
    fix_randomness(1)
    run = Run(device="cpu", progress=False, **where)
    return pretrain(make_crops(), SHAPE, settings, seed=3, run=run, groups=np.arange(48) % 3)


def main() -> None:
    folder, settings = Path(sys.argv[1]), make_settings(**json.loads(sys.argv[2]))
    trained = train(settings, folder=folder)
    if os.environ.get("RANK", "0") == "0":
        torch.save([epoch.loss for epoch in trained.epochs], folder / "losses.pt")
        torch.save(trained.encoder.state_dict(), folder / "encoder.pt")


if __name__ == "__main__":
    main()
