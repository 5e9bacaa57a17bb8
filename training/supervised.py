"""The supervised comparator: the same encoder under a linear layer, on the same views, by class-weighted cross-entropy.

The number of epochs is fixed beforehand: there is no early stopping that could look at the cases it is judged on.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, softmax

from service.imaging.preprocess import Crop as Crops
from training.balancing import Balancer
from training.checkpoints import sign
from training.config import Balance, EncoderShape, Pretraining
from training.distributed import World, open_world
from training.embedding import embed, new_encoder
from training.encoder import Encoder
from training.learners import Batch, Rows, Strengths, centre
from training.loop import NOWHERE, Epoch, Run, Signatures, Training, train
from training.pretrain import check_batch
from training.views import ViewParams, apply_view, draw_view_params

Labels = NDArray[np.intp]


@dataclass(frozen=True)
class Supervised:
    """The fitted network, in evaluation mode: the encoder and the linear layer; and what each epoch showed."""

    encoder: Encoder
    linear: nn.Linear
    epochs: list[Epoch]

    def probabilities(self, crops: Crops) -> NDArray[np.float64]:
        """Return the probabilities [N, C] of the classes."""
        with torch.inference_mode():
            return softmax(self.linear(embed(self.encoder, crops)), dim=1).double().numpy()


class Classifying(nn.Module):
    """Encoder and linear layer."""

    def __init__(self, encoder: Encoder, classes: int) -> None:
        super().__init__()
        self.encoder, self.linear = encoder, nn.Linear(encoder.dimension, classes)

    def forward(self, views: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits [N, C] and embeddings [N, d]."""
        f = self.encoder(views)
        return self.linear(f), f


class Labelled:
    """The learner: one view of each crop, and its class.

    Args:
        encoder: to train.
        settings: `views` is used.
        labels: [N] classes from 0; every class weighs the same in the whole.
        image_channels: of the crops.
    """

    def __init__(self, encoder: Encoder, settings: Pretraining, labels: Labels, image_channels: int) -> None:
        sizes = np.bincount(labels)
        self.classifying = Classifying(encoder, len(sizes))
        self.model: nn.Module = self.classifying
        self._settings, self._labels, self._image_channels = settings, torch.from_numpy(labels), image_channels
        self._class_weights = torch.from_numpy(len(labels) / ((sizes > 0).sum() * np.maximum(sizes, 1.0))).float()

    def draw(self, rng: np.random.Generator, count: int, strengths: Strengths) -> ViewParams:
        """Draw one view of each crop."""
        return draw_view_params(rng, count, self._settings.views, strengths)

    def make_batch(self, crops: Tensor, rows: Rows, drawn: ViewParams, share: slice) -> Batch:
        """Return the views; the classes are the targets."""
        views = apply_view(crops, drawn.part(share.start, share.stop), self._image_channels)
        return Batch(rows, (views,), (self._labels[rows[share]].to(crops.device),))

    def find_losses(self, outputs: tuple[Tensor, ...], batch: Batch, world: World) -> tuple[Tensor, Tensor]:
        """Return each case's cross-entropy times the weight of its class, and the embeddings about their mean."""
        (logits, f), (labels,) = outputs, batch.targets
        losses = cross_entropy(logits, labels, reduction="none") * self._class_weights.to(logits)[labels]
        return world.gather(losses), centre(world.gather(f.detach()))


def fit_supervised(
    crops: Crops,
    labels: Labels,
    encoder_shape: EncoderShape,
    settings: Pretraining,
    seed: int,
    *,
    run: Run = NOWHERE,
    image_channels: int | None = None,
) -> Supervised:
    """Train encoder and linear layer on labelled crops; they start from the weights that pretraining starts from.

    Args:
        crops: [N, C, D, D, D].
        labels: [N] classes from 0.
        encoder_shape: of the network.
        settings: epochs, batch, learning rate and views; objective and balance are not used.
        seed: determines a run on the CPU bit for bit, for one number of threads.
        run: where and how; there is no warm-up to share.
        image_channels: how many of C are intensities; all but the last, the mask, where C > 1.

    Raises:
        CheckpointError: what lies in the run's folder is of another run.
        ConfigError: the batch cannot be shared among the processes, or the crops are fewer than a batch.
    """
    if run.threads is not None:
        torch.set_num_threads(run.threads)
    settings = settings.model_copy(update={"balance": Balance()})
    signature = sign(crops, "supervised", encoder_shape.model_dump(), settings.model_dump(), seed, labels.tolist())
    with open_world(run.device) as world:
        check_batch(len(crops), settings.batch, world)
        encoder = new_encoder(crops.shape[1], encoder_shape, seed)
        learner = Labelled(encoder, settings, labels, image_channels or max(1, crops.shape[1] - 1))
        training = Training(crops, encoder, learner, Balancer(settings, len(crops), seed), world)
        train(training, replace(run, warm_start=None), Signatures(whole=signature, warm_up=signature))
    linear = learner.classifying.linear.cpu().eval()
    return Supervised(training.copy_encoder(encoder_shape), linear, training.record)
