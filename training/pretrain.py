"""Self-supervised pretraining of the encoder: SimSiam on cached crops, top to bottom."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from service.imaging.preprocess import Crop as Crops
from training.config import BundleConfig, Pretraining
from training.encoder import Encoder
from training.method import SimSiam, effective_rank, simsiam_loss, spread, weighted_mean
from training.views import ViewParams, apply_view, draw_view_params

LEAST_SPREAD = 0.3  # of z / ||z||, where 1 is even and 0 collapsed


@dataclass(frozen=True)
class Epoch:
    """What one epoch showed; `collapsed` where the directions of the projections have closed up."""

    number: int
    loss: float
    spread: float
    effective_rank: float

    @property
    def collapsed(self) -> bool:
        """Whether this epoch rings the alarm."""
        return self.spread < LEAST_SPREAD


def fix_randomness(threads: int) -> None:
    """Make runs on the CPU repeatable: a fixed number of threads and deterministic kernels."""
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)


def pretrain(crops: Crops, config: BundleConfig) -> tuple[Encoder, list[Epoch]]:
    """Train an encoder on unlabelled crops [N, C, D, D, D]; return it in evaluation mode with the epochs' record."""
    settings = config.pretraining
    rng = np.random.default_rng([config.seed, 1])
    encoder = new_encoder(config)
    model = SimSiam(encoder, config.encoder.dimension, settings.width)
    model = model.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(
        model.parameters(), settings.learning_rate, momentum=settings.momentum, weight_decay=settings.weight_decay
    )
    record = []
    with tqdm(total=settings.epochs * (len(crops) // settings.batch), desc="pretraining", unit="step") as progress:
        for number in range(settings.epochs):
            losses, spreads = [], []
            batches = draw_batches(rng, len(crops), settings.batch)
            for step, chosen in enumerate(batches):
                set_learning_rate(optimizer, settings, number + step / len(batches))
                batch = torch.from_numpy(crops[np.sort(chosen)])
                loss, z = train_step(model, optimizer, batch, draw_pair(rng, len(batch), settings))
                losses.append(loss)
                spreads.append(spread(z))
                progress.update()
            rank = effective_rank(embed(encoder, crops[: 4 * settings.batch]))
            record.append(Epoch(number, float(np.mean(losses)), float(np.mean(spreads)), rank))
            progress.set_postfix(loss=f"{record[-1].loss:.3f}", spread=f"{record[-1].spread:.2f}", rank=f"{rank:.1f}")
            if record[-1].collapsed:
                progress.write(f"epoch {number}: the projections have collapsed (spread {record[-1].spread:.2f})")
    return encoder.eval(), record


def new_encoder(config: BundleConfig) -> Encoder:
    """Return the network as it is before any training; the seed determines its weights."""
    torch.manual_seed(config.seed)
    return Encoder(config.input_channels, config.encoder.widths, config.encoder.dimension)


def untrained_encoder(crops: Crops, config: BundleConfig) -> Encoder:
    """Return the random network with its normalisation fitted to the crops: what pretraining is measured against."""
    encoder = new_encoder(config).train()
    with torch.inference_mode():
        for start in range(0, min(len(crops), 8 * config.pretraining.batch), config.pretraining.batch):
            encoder(torch.from_numpy(crops[start : start + config.pretraining.batch].copy()))
    return encoder.eval()


def train_step(
    model: SimSiam, optimizer: torch.optim.Optimizer, batch: Tensor, views: tuple[ViewParams, ViewParams]
) -> tuple[float, Tensor]:
    """Take one step; return the loss and the projections of the first view."""
    first, second = (model(apply_view(batch, params, image_channels=1)) for params in views)
    loss = weighted_mean(simsiam_loss(first, second))
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return float(loss.detach()), first[0].detach()


def draw_batches(rng: np.random.Generator, count: int, batch: int) -> list[NDArray[np.intp]]:
    """Return an epoch's batches in random order; the last, incomplete one is left out."""
    order = rng.permutation(count)
    return [order[start : start + batch] for start in range(0, count - batch + 1, batch)]


def draw_pair(rng: np.random.Generator, count: int, settings: Pretraining) -> tuple[ViewParams, ViewParams]:
    """Draw the parameters of two views of each crop."""
    return draw_view_params(rng, count, settings.views), draw_view_params(rng, count, settings.views)


def set_learning_rate(optimizer: torch.optim.Optimizer, settings: Pretraining, epoch: float) -> None:
    """Follow half a cosine over the epochs after a linear warm-up; the predictor follows it too."""
    rate = settings.learning_rate * 0.5 * (1.0 + math.cos(math.pi * epoch / settings.epochs))
    if epoch < settings.warmup_epochs:
        rate *= (epoch + 0.1) / settings.warmup_epochs
    for group in optimizer.param_groups:
        group["lr"] = rate


def embed(encoder: Encoder, crops: Crops, batch: int = 64) -> Tensor:
    """Return the frozen embeddings [N, dimension] of crops; the encoder is left in the mode it was in."""
    training = encoder.training
    encoder.eval()
    with torch.inference_mode():
        parts = [
            encoder(torch.from_numpy(crops[start : start + batch].copy())) for start in range(0, len(crops), batch)
        ]
    encoder.train(training)
    return torch.cat(parts)
