"""The loop of every training: epochs of steps, with checkpoints, alarms, TensorBoard and progress.

Every epoch's random numbers follow from the seed and the epoch's number alone: a run that was killed goes on bit for
bit from its last checkpoint, and runs that differ in the balance only share their warm-up, batches and views.
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
from training.balancing import Balancer, Rows
from training.checkpoints import State, read_checkpoint, write_checkpoint
from training.config import ConfigError, EncoderShape, Pretraining
from training.distributed import World
from training.embedding import embed
from training.encoder import Encoder
from training.feeding import Feed
from training.learners import Batch, Learner
from training.method import effective_rank, spread, weighted_mean
from training.sampling import Batches

LEAST_SPREAD = 0.3  # of z / ||z||, where 1 is even and 0 collapsed
LEAST_RANK = 1.2  # of the embeddings, where 1 is a line
CHECKPOINT = "checkpoint.pt"
VIEWS = 1  # stream of random numbers


class DivergedError(ConfigError):
    """A training's loss is no longer a finite number: mostly the learning rate is too high for the objective."""


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
class Signatures:
    """What checkpoints must agree on: those of the run itself, and that of the warm-up it shares with others."""

    whole: str
    warm_up: str


def train(training: "Training", run: Run, signatures: Signatures) -> None:
    """Take a run from where it stands to its last epoch.

    Raises:
        CheckpointError: what lies in the run's folder, or at its warm start, is of another run.
    """
    first = _take_up(training, run, signatures)
    with _open_board(run, training.world, first) as board, _show_progress(training, run, first) as progress:
        for number in range(first, training.settings.epochs):
            epoch = training.run_epoch(number, progress)
            if training.world.leads:
                _report(epoch, training, board, progress)
                _save(training, run, signatures)


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
        self.balancer.begin_epoch(number, self._embed_all)
        batches = self.balancer.draw_batches(number)
        feed = self.feed(number, batches)
        losses, vectors = [], []
        for step, batch in enumerate(feed):
            set_learning_rate(self.optimizer, self.settings, number + step / len(batches))
            loss, z = self.take_step(batch)
            losses.append(loss)
            vectors.append(torch.tensor(spread(z)))
            progress.update()
        mean = float(torch.stack(losses).mean())
        if not math.isfinite(mean):
            raise DivergedError(f"epoch {number}: the loss is {mean}; lower [pretraining] learning_rate")
        rank = effective_rank(embed(self.encoder, self.crops[: 4 * self.settings.batch]))
        epoch = Epoch(
            number,
            mean,
            float(torch.stack(vectors).mean()),
            rank,
            cluster_sizes=self.balancer.cluster_sizes(),
        )
        self.balancer.end_epoch()
        self.record.append(epoch)
        self.wait_share = feed.waited_seconds / (perf_counter() - start)
        return epoch

    def feed(self, number: int, batches: Batches) -> Feed[Rows, Batch]:
        """Return an epoch's batches, made one step ahead."""
        rng = np.random.default_rng([self.balancer.seed, VIEWS, number])
        strengths = self.balancer.strengths()

        def make(chosen: Rows) -> Batch:
            rows = np.sort(chosen)
            drawn = self.learner.draw(rng, len(rows), None if strengths is None else strengths[rows])
            share = self.world.share(len(rows))
            crops = torch.from_numpy(self.crops[rows[share]])
            if self.world.device.type == "cuda":
                crops = crops.pin_memory().to(self.world.device, non_blocking=True)
            with torch.no_grad():
                return self.learner.make_batch(crops, rows, drawn, share)

        return Feed(batches, make)

    def take_step(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Take one step; return the loss, and the vectors whose spread tells of collapse."""
        self.learner.model.train()
        with torch.autocast(self.world.device.type, torch.bfloat16, enabled=self.settings.amp == "bf16"):
            outputs = self.network(*batch.inputs)
        losses, vectors = self.learner.find_losses(tuple(each.float() for each in outputs), batch, self.world)
        loss = weighted_mean(losses, self.balancer.weigh(batch.rows, losses.detach()))
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
        return self.world.agree(embed(self.encoder, self.crops)).double().numpy()


def _take_up(training: Training, run: Run, signatures: Signatures) -> int:
    """Restore the newest state there is; return the number of epochs that are done."""
    if run.resume and run.folder is not None and (run.folder / CHECKPOINT).exists():
        training.restore(read_checkpoint(run.folder / CHECKPOINT, signatures.whole))
    elif run.warm_start is not None and run.warm_start.exists():
        training.restore(read_checkpoint(run.warm_start, signatures.warm_up))
    return len(training.record)


def _save(training: Training, run: Run, signatures: Signatures) -> None:
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


def set_learning_rate(optimizer: torch.optim.Optimizer, settings: Pretraining, epoch: float) -> None:
    """Follow half a cosine over the epochs after a linear warm-up; the predictor follows it too."""
    rate = settings.learning_rate * 0.5 * (1.0 + math.cos(math.pi * epoch / settings.epochs))
    if epoch < settings.warmup_epochs:
        rate *= (epoch + 0.1) / settings.warmup_epochs
    for group in optimizer.param_groups:
        group["lr"] = rate
