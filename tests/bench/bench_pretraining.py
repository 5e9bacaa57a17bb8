"""Crops per second of one SimSiam step: this package and lightly with the same encoder, batch, threads and device.

    python -m tests.bench.bench_pretraining [--lightly FOLDER] [--batch 64] [--threads 1] [--device cpu]

Both train the same 3D encoder under heads of the same widths with SGD; rounds alternate within one run, and medians
are reported. `step` is the step alone, on views that lie ready. `with views` makes new views of new crops for every
step: here they are fed ahead by the training loop; lightly, which has no transforms of volumes, is given this
package's views, made before each step. `input wait` is the share of the loop's time spent waiting for them. `peak`
compares the step's arithmetic with a large matrix product measured in the same run.

lightly is imported from FOLDER, where `pip install --no-deps --target FOLDER lightly` and what it imports were put.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from statistics import median

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from training.balancing import Balancer
from training.config import Pretraining
from training.distributed import World
from training.encoder import Encoder
from training.learners import Batch, make_learner
from training.loop import Training

Step = Callable[[Batch], None]


def main() -> None:
    arguments = read_arguments()
    torch.set_num_threads(arguments.threads)
    training = make_training(arguments)
    steps: dict[str, Step] = {"radfuse": lambda batch: training.take_step(batch) and None}
    if arguments.lightly:
        sys.path.insert(0, arguments.lightly)
        steps["lightly"] = make_lightly_step(arguments)
    results = {name: {"step": [], "with views": []} for name in steps}
    waits = []
    ready = next(iter(training.feed(0, draw_batches(arguments, 1))))
    for name, step in steps.items():
        step(ready)
        next(make_views(training, arguments, 1))
        print(f"{name}: {count_flops(step, ready) / 1e9:.3g} GFLOP a step", flush=True)
    for number in range(arguments.rounds):
        for name, step in steps.items():
            results[name]["step"].append(time_steps(step, (ready for _ in range(arguments.steps)), arguments))
            if name == "radfuse":
                feed = training.feed(number, draw_batches(arguments, arguments.steps))
                seconds = time_steps(step, feed, arguments)
                waits.append(feed.waited_seconds / seconds)
            else:
                seconds = time_steps(step, make_views(training, arguments, arguments.steps), arguments)
            results[name]["with views"].append(seconds)
    report(results, waits, arguments)
    peak = measure_peak(arguments.device)
    seconds = median(results["radfuse"]["step"]) / arguments.steps
    print(f"peak: {count_flops(steps['radfuse'], ready) / seconds / peak:.0%} of {peak / 1e9:.0f} GFLOP/s (float32)")


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--lightly")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--edge", type=int, default=24)
    parser.add_argument("--widths", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--dimension", type=int, default=48)
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--amp", choices=["off", "bf16"], default="off")
    return parser.parse_args()


def make_training(arguments: argparse.Namespace) -> Training:
    settings = Pretraining(
        epochs=1, batch=arguments.batch, learning_rate=0.05, width=arguments.width, amp=arguments.amp
    )
    count, edge = 4 * arguments.batch, arguments.edge
    crops = np.random.default_rng(0).uniform(-1, 1, (count, 2, edge, edge, edge)).astype(np.float32)
    encoder = Encoder(2, arguments.widths, arguments.dimension)
    learner = make_learner(encoder, settings, image_channels=1)
    device = torch.device(arguments.device, 0) if arguments.device == "cuda" else torch.device("cpu")
    return Training(crops, encoder, learner, Balancer(settings, count, seed=0), World(device))


def make_lightly_step(arguments: argparse.Namespace) -> Step:
    from lightly.loss import NegativeCosineSimilarity
    from lightly.models.modules.heads import SimSiamPredictionHead, SimSiamProjectionHead

    encoder = Encoder(2, arguments.widths, arguments.dimension)
    projector = SimSiamProjectionHead(arguments.dimension, arguments.width, arguments.width)
    predictor = SimSiamPredictionHead(arguments.width, arguments.width // 4, arguments.width)
    model = nn.ModuleList([encoder, projector, predictor]).to(arguments.device).train()
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9, weight_decay=1e-4)
    criterion = NegativeCosineSimilarity()

    def step(batch: Batch) -> None:
        with torch.autocast(arguments.device, torch.bfloat16, enabled=arguments.amp == "bf16"):
            first, second = (projector(encoder(views)) for views in batch.inputs)
            loss = 0.5 * (criterion(predictor(first), second.detach()) + criterion(predictor(second), first.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def draw_batches(arguments: argparse.Namespace, steps: int) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.permutation(4 * arguments.batch)[: arguments.batch] for _ in range(steps)]


def make_views(training: Training, arguments: argparse.Namespace, steps: int) -> Iterator[Batch]:
    """Make each batch when it is asked for, in the same thread."""
    rng = np.random.default_rng(2)
    for rows in draw_batches(arguments, steps):
        drawn = training.learner.draw(rng, len(rows), None)
        crops = torch.from_numpy(training.crops[rows]).to(arguments.device)
        yield training.learner.make_batch(crops, rows, drawn, slice(0, len(rows)))


def time_steps(step: Step, batches: object, arguments: argparse.Namespace) -> float:
    synchronise(arguments.device)
    start = time.perf_counter()
    for batch in batches:
        step(batch)
    synchronise(arguments.device)
    return time.perf_counter() - start


def count_flops(step: Step, batch: Batch) -> float:
    with FlopCounterMode(display=False) as counter:
        step(batch)
    return counter.get_total_flops()


def measure_peak(device: str, edge: int = 2048) -> float:
    a, b = (torch.rand(edge, edge, device=device) for _ in range(2))
    times = []
    for _ in range(5):
        synchronise(device)
        start = time.perf_counter()
        a @ b
        synchronise(device)
        times.append(time.perf_counter() - start)
    return 2 * edge**3 / min(times)


def synchronise(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def report(results: dict[str, dict[str, list[float]]], waits: list[float], arguments: argparse.Namespace) -> None:
    crops = arguments.batch * arguments.steps
    print(f"batch {arguments.batch}, {arguments.edge}^3 voxels, 2 channels, widths {arguments.widths}, ", end="")
    print(f"{arguments.threads} threads, {arguments.device}, amp {arguments.amp}, {arguments.rounds} rounds")
    print(f"{'':10}{'step':>14}{'with views':>14}   crops/s, median")
    for name, kinds in results.items():
        print(f"{name:10}" + "".join(f"{crops / median(times):14.0f}" for times in kinds.values()))
    for kind in ("step", "with views"):
        if "lightly" in results:
            ratio = median(b / a for a, b in zip(results["radfuse"][kind], results["lightly"][kind], strict=True))
            print(f"radfuse / lightly, {kind}: {ratio:.2f}")
    print(f"input wait: {median(waits):.1%} of the loop")


if __name__ == "__main__":
    main()
