"""The encoder before and after training, and the embeddings of crops."""

import torch
from torch import Tensor

from service.imaging.preprocess import Crop as Crops
from training.config import EncoderShape, Pretraining
from training.encoder import Encoder


def new_encoder(channels: int, shape: EncoderShape, seed: int) -> Encoder:
    """Return the network as it is before any training; the seed determines its weights."""
    torch.manual_seed(seed)
    return Encoder(channels, shape.widths, shape.dimension)


def untrained_encoder(crops: Crops, shape: EncoderShape, settings: Pretraining, seed: int) -> Encoder:
    """Return the random network with its normalisation fitted to the crops: what pretraining is measured against."""
    encoder = new_encoder(crops.shape[1], shape, seed).train()
    with torch.inference_mode():
        for start in range(0, min(len(crops), 8 * settings.batch), settings.batch):
            encoder(torch.from_numpy(crops[start : start + settings.batch].copy()))
    return encoder.eval()


def embed(encoder: Encoder, crops: Crops, batch: int = 64) -> Tensor:
    """Return the frozen embeddings [N, dimension] of crops, on the CPU; the encoder is left in the mode it was in."""
    training, device = encoder.training, next(encoder.parameters()).device
    encoder.eval()
    with torch.inference_mode():
        parts = [
            encoder(torch.from_numpy(crops[start : start + batch].copy()).to(device)).cpu()
            for start in range(0, len(crops), batch)
        ]
    encoder.train(training)
    return torch.cat(parts)
