"""Self-supervised pretraining of the encoder on cached crops: objective x balance.

Plain epochs come first; at their end the cases are clustered by their embeddings, and again every few epochs, and the
balance begins: weights (RE), batches (SE), or the strength of views. `training.loop` does the steps.
"""

from dataclasses import dataclass

import torch

from service.imaging.preprocess import Crop as Crops
from training.balancing import Balancer, Groups
from training.checkpoints import sign
from training.config import ConfigError, EncoderShape, Pretraining
from training.distributed import World, open_world
from training.embedding import embed, new_encoder, untrained_encoder
from training.encoder import Encoder
from training.learners import make_learner
from training.loop import NOWHERE, Epoch, Run, Signatures, Training, train

__all__ = ["Epoch", "Pretrained", "Run", "embed", "fix_randomness", "new_encoder", "pretrain", "untrained_encoder"]


@dataclass(frozen=True)
class Pretrained:
    """The encoder, in evaluation mode; what each epoch showed; the last clusters [N], where there were any."""

    encoder: Encoder
    epochs: list[Epoch]
    clusters: Groups | None


def pretrain(
    crops: Crops,
    encoder_shape: EncoderShape,
    settings: Pretraining,
    seed: int,
    *,
    run: Run = NOWHERE,
    groups: Groups | None = None,
    image_channels: int | None = None,
) -> Pretrained:
    """Train an encoder on unlabelled crops [N, C, D, D, D].

    Under torchrun every process calls this with the same arguments; `settings.batch` is that of all together.

    Args:
        crops: may be memory-mapped.
        encoder_shape: of the network.
        settings: the objective, the balance and the optimisation.
        seed: determines a run on the CPU bit for bit, for one number of threads.
        run: where and how.
        groups: [N] true classes, for the oracle control only.
        image_channels: how many of C are intensities; all but the last, the mask, where C > 1.

    Raises:
        CheckpointError: what lies in the run's folder, or at its warm start, is of another run.
        ConfigError: the batch cannot be shared among the processes, or the crops are fewer than a batch.
    """
    if run.threads is not None:
        torch.set_num_threads(run.threads)
    with open_world(run.device) as world:
        check_batch(len(crops), settings.batch, world)
        encoder = new_encoder(crops.shape[1], encoder_shape, seed)
        learner = make_learner(encoder, settings, image_channels or max(1, crops.shape[1] - 1))
        balancer = Balancer(settings, len(crops), seed, groups)
        training = Training(crops, encoder, learner, balancer, world)
        train(training, run, _sign(crops, encoder_shape, settings, seed, groups))
    return Pretrained(training.copy_encoder(encoder_shape), training.record, balancer.clusters)


def fix_randomness(threads: int) -> None:
    """Make runs on the CPU repeatable: a fixed number of threads and deterministic kernels."""
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)


def check_batch(count: int, batch: int, world: World) -> None:
    """Refuse a batch that there are too few crops for, or that cannot be shared out.

    Raises:
        ConfigError: saying which.
    """
    if batch % world.size:
        raise ConfigError(f"a batch of {batch} cannot be shared evenly among {world.size} processes")
    if count < batch:
        raise ConfigError(f"{count} crops are fewer than one batch of {batch}")


def _sign(crops: Crops, shape: EncoderShape, settings: Pretraining, seed: int, groups: Groups | None) -> Signatures:
    chosen = settings.model_dump(exclude={"balance", "compile", "checkpoint_epochs"})
    warm_up = sign(crops, shape.model_dump(), chosen, seed)
    balance = settings.balance.model_dump()
    return Signatures(sign(crops, warm_up, balance, None if groups is None else groups.tolist()), warm_up)
