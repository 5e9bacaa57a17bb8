"""Self-supervised pretraining of the encoder on cached crops, top to bottom: objective x balance.

Plain epochs come first; at their end the cases are clustered by their embeddings, and again every few epochs, and the
balance (weights, batches, view strengths) begins. Every epoch's random numbers follow from the seed and the epoch's
number alone: a run that was killed goes on bit for bit from its last checkpoint, and strategies that differ in the
balance only share their warm-up, batches and views.
"""

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.tensorboard.writer import SummaryWriter
from tqdm import tqdm

from service.imaging.preprocess import Crop as Crops
from training.balancing import Balancer, Batches, Groups, Rows
from training.checkpoints import State, read_checkpoint, sign, write_checkpoint
from training.config import ConfigError, EncoderShape, Pretraining
from training.distributed import World, open_world
from training.encoder import Encoder
from training.feeding import Feed
from training.learners import Learner, make_learner
from training.method import effective_rank, spread, weighted_mean

LEAST_SPREAD = 0.3  # of z / ||z||, where 1 is even and 0 collapsed
LEAST_RANK = 1.2  # of the embeddings, where 1 is a line
CHECKPOINT = "checkpoint.pt"
VIEWS = 1  # stream of random numbers


@dataclass(frozen=True)
class Run:
    """Where and how a training runs; nothing here changes what is learnt.

    Attributes:
        folder: of checkpoints and TensorBoard's events; none are written without.
        device: cpu, cuda, or auto: cuda where there is one.
        threads: of the CPU; as they are where absent.
        progress: whether to show it.
        resume: go on from the checkpoint in `folder`, where there is one.
        warm_start: file of the plain warm-up: taken from there, or else written there, for all that differ from this
            run in the balance alone.
    """

    folder: Path | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = None
    progress: bool = True
    resume: bool = False
    warm_start: Path | None = None


NOWHERE = Run()


@dataclass(frozen=True)
class Epoch:
    """What one epoch showed; `cluster_sizes` where the balance had clusters."""

    number: int
    loss: float
    spread: float
    effective_rank: float
    cluster_sizes: tuple[int, ...] = ()

    @property
    def collapsed(self) -> bool:
        """Whether this epoch rings the alarm: directions have closed up, or the embeddings lie on a line."""
        return self.spread < LEAST_SPREAD or self.effective_rank < LEAST_RANK


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
        _check_batch(len(crops), settings.batch, world)
        encoder = new_encoder(crops.shape[1], encoder_shape, seed)
        learner = make_learner(encoder, settings, image_channels or max(1, crops.shape[1] - 1))
        balancer = Balancer(settings, len(crops), seed, groups)
        training = Training(crops, encoder, learner, balancer, world)
        signatures = _Signatures.of(crops, encoder_shape, settings, seed, groups)
        first = _take_up(training, run, signatures)
        with _open_board(run, world, first) as board, _show_progress(training, run, first) as progress:
            for number in range(first, settings.epochs):
                epoch = training.run_epoch(number, progress)
                if world.leads:
                    _report(epoch, training, board, progress)
                    _save(training, run, signatures)
    return Pretrained(training.copy_encoder(encoder_shape), training.record, balancer.clusters)


class Training:
    """A run's network, optimiser, balance and record, epoch by epoch.

    Args:
        crops: [N, C, D, D, D].
        encoder: part of the learner's model.
        learner: the objective.
        balancer: the strategy against imbalance.
        world: this process among all.
    """

    def __init__(self, crops: Crops, encoder: Encoder, learner: Learner, balancer: Balancer, world: World) -> None:
        self.crops, self.encoder, self.learner, self.balancer, self.world = crops, encoder, learner, balancer, world
        self.settings, self.record, self.wait_share = balancer.settings, list[Epoch](), 0.0
        model = learner.model.to(world.device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.network = world.wrap(model)
        if self.settings.compile:
            self.network = cast("nn.Module", torch.compile(self.network))
        self.optimizer = torch.optim.SGD(
            model.parameters(),
            self.settings.learning_rate,
            momentum=self.settings.momentum,
            weight_decay=self.settings.weight_decay,
        )

    def run_epoch(self, number: int, progress: tqdm) -> Epoch:
        """Take an epoch's steps, and record what they showed."""
        start = perf_counter()
        self.balancer.prepare(number, self._embed_all)
        batches = self.balancer.draw_batches(number)
        feed = self.feed(number, batches)
        losses, vectors = [], []
        for step, (rows, inputs) in enumerate(feed):
            set_learning_rate(self.optimizer, self.settings, number + step / len(batches))
            loss, z = self.take_step(rows, inputs)
            losses.append(loss)
            vectors.append(torch.tensor(spread(z)))
            progress.update()
        rank = effective_rank(embed(self.encoder, self.crops[: 4 * self.settings.batch]))
        epoch = Epoch(
            number,
            float(torch.stack(losses).mean()),
            float(torch.stack(vectors).mean()),
            rank,
            cluster_sizes=self.balancer.cluster_sizes(),
        )
        self.record.append(epoch)
        self.wait_share = feed.waited_seconds / (perf_counter() - start)
        return epoch

    def feed(self, number: int, batches: Batches) -> "Feed[Rows, tuple[Rows, tuple[Tensor, ...]]]":
        """Return an epoch's batches: their rows, and the network's inputs of this process's share."""
        rng = np.random.default_rng([self.balancer.seed, VIEWS, number])
        strengths = self.balancer.strengths()

        def make(chosen: Rows) -> tuple[Rows, tuple[Tensor, ...]]:
            rows = np.sort(chosen)
            drawn = self.learner.draw(rng, len(rows), None if strengths is None else strengths[rows])
            share = self.world.share(len(rows))
            crops = torch.from_numpy(self.crops[rows[share]])
            if self.world.device.type == "cuda":
                crops = crops.pin_memory().to(self.world.device, non_blocking=True)
            with torch.no_grad():
                return rows, self.learner.make_inputs(crops, drawn, share)

        return Feed(batches, make)

    def take_step(self, rows: Rows, inputs: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Take one step; return the loss, and the vectors whose spread tells of collapse."""
        self.learner.model.train()
        with torch.autocast(self.world.device.type, torch.bfloat16, enabled=self.settings.amp == "bf16"):
            outputs = self.network(*inputs)
        losses, vectors = self.learner.find_losses(outputs, self.world)
        loss = weighted_mean(losses, self.balancer.weigh(rows, losses.detach()))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return loss.detach(), vectors

    def copy_encoder(self, shape: EncoderShape) -> Encoder:
        """Return the encoder as it now is, alone, on the CPU and in evaluation mode."""
        encoder = Encoder(self.encoder.channels, shape.widths, shape.dimension)
        encoder.load_state_dict(self.encoder.state_dict())
        return encoder.eval()

    def state(self) -> State:
        """Return all that the next epochs depend on."""
        return {
            "epochs": [asdict(epoch) for epoch in self.record],
            "model": self.learner.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "balance": self.balancer.state(),
            "random": torch.get_rng_state(),
        }

    def restore(self, state: State) -> None:
        """Take up what `state` returned."""
        self.record = [Epoch(**epoch | {"cluster_sizes": tuple(epoch["cluster_sizes"])}) for epoch in state["epochs"]]
        self.learner.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.balancer.restore(state["balance"])
        torch.set_rng_state(state["random"])

    def _embed_all(self) -> NDArray[np.float64]:
        return embed(self.encoder, self.crops).double().numpy()


@dataclass(frozen=True)
class _Signatures:
    """What the checkpoints of a run must agree on: with itself, and with those it shares the warm-up with."""

    whole: str
    warm_up: str

    @classmethod
    def of(
        cls, crops: Crops, shape: EncoderShape, settings: Pretraining, seed: int, groups: Groups | None
    ) -> "_Signatures":
        chosen = settings.model_dump(exclude={"balance", "compile", "checkpoint_epochs"})
        warm_up = sign(crops, shape.model_dump(), chosen, seed)
        return cls(
            sign(crops, warm_up, settings.balance.model_dump(), None if groups is None else groups.tolist()), warm_up
        )


def _check_batch(count: int, batch: int, world: World) -> None:
    if batch % world.size:
        raise ConfigError(f"a batch of {batch} cannot be shared evenly among {world.size} processes")
    if count < batch:
        raise ConfigError(f"{count} crops are fewer than one batch of {batch}")


def _take_up(training: Training, run: Run, signatures: _Signatures) -> int:
    """Restore the newest state there is; return the number of epochs that are done."""
    if run.resume and run.folder is not None and (run.folder / CHECKPOINT).exists():
        training.restore(read_checkpoint(run.folder / CHECKPOINT, signatures.whole))
    elif run.warm_start is not None and run.warm_start.exists():
        training.restore(read_checkpoint(run.warm_start, signatures.warm_up))
    return len(training.record)


def _save(training: Training, run: Run, signatures: _Signatures) -> None:
    done, settings = len(training.record), training.settings
    if run.warm_start is not None and done == training.balancer.plain_epochs:
        write_checkpoint(run.warm_start, training.state(), signatures.warm_up)
    if run.folder is not None and (done % settings.checkpoint_epochs == 0 or done == settings.epochs):
        write_checkpoint(run.folder / CHECKPOINT, training.state(), signatures.whole)


@contextmanager
def _open_board(run: Run, world: World, first: int) -> Iterator[SummaryWriter | None]:
    if run.folder is None or not world.leads:
        yield None
        return
    with SummaryWriter(str(run.folder), purge_step=first) as board:
        yield board


def _show_progress(training: Training, run: Run, first: int) -> tqdm:
    settings = training.settings
    steps = len(training.crops) // settings.batch
    return tqdm(
        total=settings.epochs * steps,
        initial=first * steps,
        desc="pretraining",
        unit="step",
        disable=not (run.progress and training.world.leads),
    )


def _report(epoch: Epoch, training: Training, board: SummaryWriter | None, progress: tqdm) -> None:
    progress.set_postfix(loss=f"{epoch.loss:.3f}", spread=f"{epoch.spread:.2f}", rank=f"{epoch.effective_rank:.1f}")
    if epoch.collapsed:
        seen = f"spread {epoch.spread:.2f}, effective rank {epoch.effective_rank:.1f}"
        tqdm.write(f"epoch {epoch.number}: the embeddings have collapsed ({seen})", file=sys.stderr)
    if board is not None:
        scalars = {"loss": epoch.loss, "spread": epoch.spread, "effective_rank": epoch.effective_rank}
        scalars |= {f"cluster_sizes/{number}": size for number, size in enumerate(epoch.cluster_sizes)}
        scalars |= {"learning_rate": training.optimizer.param_groups[0]["lr"], "input_wait": training.wait_share}
        for name, value in scalars.items():
            board.add_scalar(name, value, epoch.number)
        board.flush()


def fix_randomness(threads: int) -> None:
    """Make runs on the CPU repeatable: a fixed number of threads and deterministic kernels."""
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)


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


def set_learning_rate(optimizer: torch.optim.Optimizer, settings: Pretraining, epoch: float) -> None:
    """Follow half a cosine over the epochs after a linear warm-up; the predictor follows it too."""
    rate = settings.learning_rate * 0.5 * (1.0 + math.cos(math.pi * epoch / settings.epochs))
    if epoch < settings.warmup_epochs:
        rate *= (epoch + 0.1) / settings.warmup_epochs
    for group in optimizer.param_groups:
        group["lr"] = rate


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
