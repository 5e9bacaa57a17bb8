"""Several processes as one: who we are, batch statistics and losses over the whole batch, and DistributedDataParallel.

A batch is shared out row by row; normalisation, losses and weights see all of it. So the loss curve of n processes is
that of one process with the same batch, up to the rounding of sums.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.functional import batch_norm
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class World:
    """This process among all that train together, and its device."""

    device: torch.device
    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes the files and shows the progress."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """Return this process's rows of a batch of `count`, which `size` divides."""
        each = count // self.size
        return slice(self.rank * each, (self.rank + 1) * each)

    def gather(self, values: Tensor) -> Tensor:
        """Return the rows of all processes, in order; gradients flow back to the process they came from."""
        if self.size == 1:
            return values
        return torch.as_tensor(_Gather.apply(values))  # type: ignore[no-untyped-call]

    def agree(self, values: Tensor) -> Tensor:
        """Return the leader's values, whatever this process has; of the same shape and type."""
        if self.size > 1:
            values = values.to(self.device)
            dist.broadcast(values, 0)
        return values.cpu()

    def wrap(self, model: nn.Module) -> nn.Module:
        """Return `model` such that its gradients are averaged over the processes and its statistics are theirs all."""
        if self.size == 1:
            return model
        share_statistics(model)
        devices = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=devices)


@contextmanager
def open_world(device: str) -> Iterator[World]:
    """Join the processes that torchrun started, or be the only one.

    Args:
        device: cpu, cuda, or auto: cuda where there is one.
    """
    kind = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World(torch.device(kind, torch.cuda.current_device()) if kind == "cuda" else torch.device(kind))
        return
    place = torch.device(kind)
    if kind == "cuda":
        place = torch.device(kind, int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(place)
    started = not dist.is_initialized()
    if started:
        dist.init_process_group("nccl" if kind == "cuda" else "gloo")
    try:
        yield World(place, dist.get_rank(), size)
    finally:
        if started:
            dist.destroy_process_group()


class _Sum(torch.autograd.Function):
    """The sum over all processes. Each of them goes on to the same loss, so gradients are summed on their way back."""

    @staticmethod
    def forward(_: Any, values: Tensor) -> Tensor:
        summed = values.clone()
        dist.all_reduce(summed)
        return summed

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        summed = gradient.clone()
        dist.all_reduce(summed)
        return summed


class _Gather(torch.autograd.Function):
    """The rows of all processes in order; a row's gradients, of all losses, return to the process it came from."""

    @staticmethod
    def forward(context: Any, values: Tensor) -> Tensor:
        context.count = len(values)
        parts = [torch.empty_like(values) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, values.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        summed = gradient.clone()
        dist.all_reduce(summed)
        start = dist.get_rank() * context.count
        return summed[start : start + context.count]


BatchNorm = nn.BatchNorm1d | nn.BatchNorm3d


class SharedBatchNorm(nn.Module):
    """Batch normalisation with the statistics of all processes' rows; PyTorch's own SyncBatchNorm needs CUDA.

    Mean and variance are two all-reduced sums, whose gradients are all-reduced too. Every process has as many rows.
    """

    def __init__(self, alone: BatchNorm) -> None:
        super().__init__()
        self.eps, self.momentum = alone.eps, cast("float", alone.momentum)
        self.weight, self.bias = alone.weight, alone.bias
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            self.register_buffer(name, getattr(alone, name))

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` normalised, over all axes but the second."""
        mean, variance = cast("Tensor", self.running_mean), cast("Tensor", self.running_var)
        if not self.training:
            return batch_norm(x, mean, variance, self.weight, self.bias, False, 0.0, self.eps)
        values = x.float()
        axes, shape = [0, *range(2, x.dim())], [1, -1] + [1] * (x.dim() - 2)
        size = dist.get_world_size()
        count = values.numel() // values.shape[1] * size
        centre = _sum(values.sum(axes)) / count
        centred = values - centre.view(shape)
        spread = _sum((centred**2).sum(axes)) / count
        self._remember(mean, variance, centre.detach(), spread.detach() * count / (count - 1))
        normalised = centred * torch.rsqrt(spread + self.eps).view(shape)
        if self.weight is not None:
            normalised = normalised * self.weight.view(shape) + self.bias.view(shape)
        return torch.as_tensor(normalised.to(x.dtype))

    def _remember(self, mean: Tensor, variance: Tensor, new_mean: Tensor, new_variance: Tensor) -> None:
        with torch.no_grad():
            mean.lerp_(new_mean, self.momentum)
            variance.lerp_(new_variance, self.momentum)
            cast("Tensor", self.num_batches_tracked).add_(1)


def _sum(values: Tensor) -> Tensor:
    """Return the sum over all processes; gradients are summed on their way back."""
    return torch.as_tensor(_Sum.apply(values))  # type: ignore[no-untyped-call]


def share_statistics(model: nn.Module) -> None:
    """Replace every batch normalisation in `model` by one over all processes; names and values stay."""
    for name, child in model.named_children():
        if isinstance(child, nn.BatchNorm1d | nn.BatchNorm3d):
            setattr(model, name, SharedBatchNorm(child))
        else:
            share_statistics(child)
