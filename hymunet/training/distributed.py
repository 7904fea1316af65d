"""Ranks of one training, started by torchrun; without it, one rank that talks to nobody."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class Ranks:
    """This process's rank among `count`. Tensors that it sums live on the CPU unless said otherwise."""

    rank: int = 0
    count: int = 1
    local: int = 0
    host: Any = None  # process group over gloo, for flags and scores: reading them waits for no GPU

    @property
    def first(self) -> bool:
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """Sum over the ranks of a CPU tensor, in place."""
        if self.count > 1:
            dist.all_reduce(tensor, group=self.host)
        return tensor

    def sum_on_device(self, tensor: Tensor) -> Tensor:
        """Sum over the ranks of a tensor on the training's device, in place, without waiting for it."""
        if self.count > 1:
            dist.all_reduce(tensor)
        return tensor

    def agree(self, *flags: bool) -> tuple[bool, ...]:
        """Each flag is raised for all ranks if it is for any."""
        if self.count == 1:
            return flags
        return tuple(bool(value) for value in self.sum(torch.tensor(flags, dtype=torch.int32)))

    def from_first(self, value: Any) -> Any:
        """The first rank's value, on all ranks."""
        if self.count == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self.host)
        return box[0]


@contextmanager
def ranks() -> Iterator[Ranks]:
    """Joins the ranks that torchrun started, and leaves them in the end.

    Raises ValueError where torchrun started more processes than the machine has GPUs.
    """
    if "RANK" not in os.environ:
        yield Ranks()
        return
    local = int(os.environ.get("LOCAL_RANK", "0"))
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        if local >= (gpus := torch.cuda.device_count()):
            raise ValueError(f"process {local + 1} finds {gpus} GPUs here; start as many processes as there are GPUs")
        torch.cuda.set_device(local)
    dist.init_process_group("nccl" if on_gpu else "gloo")
    try:
        host = dist.new_group(backend="gloo")
        yield Ranks(dist.get_rank(), dist.get_world_size(), local, host)
        dist.barrier(host)  # a launcher ends all ranks when one has gone, and the first may still be saving
    finally:
        dist.destroy_process_group()


def parallel(model: nn.Module, ranks: Ranks, device: torch.device, sync_batch_norm: bool) -> nn.Module:
    """The model with its gradients averaged over the ranks; itself when there is one rank."""
    if ranks.count == 1:
        return model
    with warnings.catch_warnings():
        # torch 2.13 names it anew; 2.11 has the old name alone
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
        return DistributedDataParallel(
            model,
            device_ids=[device.index] if device.type == "cuda" else None,
            broadcast_buffers=not sync_batch_norm,  # synchronised statistics are already the same everywhere
        )


def share_buffers(model: nn.Module, ranks: Ranks) -> None:
    """Gives every rank the first one's buffers: without synchronised batch norm each has statistics of its own, and
    the first one's are published."""
    if ranks.count > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)


def accumulating(model: nn.Module, last: bool) -> Any:
    """A context in which gradients are averaged over the ranks only with the last part of a batch."""
    return nullcontext() if last or not isinstance(model, DistributedDataParallel) else model.no_sync()


def synchronise_batch_norm(model: nn.Module, device: torch.device) -> nn.Module:
    """Batch norm over the whole batch instead of each rank's part of it."""
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.__class__ = CPUSyncBatchNorm
    return model


class CPUSyncBatchNorm(nn.BatchNorm2d):
    """Batch norm over all ranks; torch's own refuses tensors on the CPU. Parts of a batch must be of equal size."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        assert self.momentum is not None
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        count = x.numel() // x.shape[1] * dist.get_world_size()
        wide = x.float()  # statistics in float32 whatever the maps are, as torch's own takes them
        mean = _SumOverRanks.apply(wide.sum((0, 2, 3))) / count
        centred = wide - mean[:, None, None]
        variance = _SumOverRanks.apply((centred * centred).sum((0, 2, 3))) / count
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)


class _SumOverRanks(torch.autograd.Function):
    """Its gradient is the sum over the ranks, too, as each rank's loss sees what all have put in."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total
