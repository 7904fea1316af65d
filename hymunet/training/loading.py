"""Batches in a fixed schedule: which images make up step n is a pure function of the seed and n.

So a training may stop after any step and go on with any number of loader processes or ranks: nothing about the loader
has to be saved.
"""

import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from hymunet.data.feed import on_device
from hymunet.data.feed.augment import Recipe, permutation
from hymunet.data.feed.dataset import Subset
from hymunet.data.feed.on_workers import WorkerAugment
from hymunet.images import normalise
from hymunet.training.patience import Patience
from hymunet.training.shared_memory import AHEAD

Batch = dict[str, Tensor]  # what differs from batch to batch, on the CPU; the loader's `expand` makes pairs of it
Pairs = tuple[Tensor, Tensor]  # images float32 (B, 3, S, S) in [-1, 1], channels-last; masks float32 (B, 1, S, S)


@dataclass(frozen=True)
class Schedule:
    """Every epoch is a new permutation of the images; images short of a full batch sit that epoch out."""

    images: int
    batch_size: int
    epochs: int
    seed: int

    def __post_init__(self) -> None:
        if self.batch_size > self.images:
            raise ValueError(f"train.batch_size {self.batch_size} exceeds the {self.images} training images; lower it")

    @property
    def steps_per_epoch(self) -> int:
        return self.images // self.batch_size

    @property
    def steps(self) -> int:
        return self.steps_per_epoch * self.epochs

    def batches(self, first_step: int) -> Iterator[tuple[int, np.ndarray]]:
        """(epoch, positions of the whole batch) for every step from `first_step` on."""
        for step in range(first_step, self.steps):
            epoch, index = divmod(step, self.steps_per_epoch)
            if index == 0 or step == first_step:
                order = permutation(self.seed, epoch, self.images)
            yield epoch, order[index * self.batch_size : (index + 1) * self.batch_size]


@dataclass(frozen=True)
class Share:
    """Rank `index` of `count` works on the index-th part of every batch."""

    index: int
    count: int

    def of(self, positions: np.ndarray) -> np.ndarray:
        size = len(positions) // self.count
        return positions[self.index * size : (self.index + 1) * size]


class _Augmented(Dataset):
    def __init__(self, subset: Subset, augment: WorkerAugment) -> None:
        self.subset, self.augment = subset, augment

    def __getitem__(self, key: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        epoch, position = key
        return self.augment(*self.subset[position], epoch, position)


class WorkerLoader:
    """Augments with albumentations in `workers` processes, ahead of the training and across epochs.

    It waits for a batch until `stopping` says so, and PATIENCE at most.
    """

    def __init__(self, subset: Subset, recipe: Recipe, workers: int, device: torch.device, ahead: int = AHEAD) -> None:
        self.subset, self.recipe, self.workers, self.device, self.ahead = subset, recipe, workers, device, ahead
        self.stopping: Callable[[], bool] = lambda: False

    def batches(self, schedule: Schedule, first_step: int, share: Share) -> Iterator[Batch]:
        """`images` uint8 (B, S, S, 3), `masks` uint8 (B, S, S), augmented. Ends early when told to stop meanwhile."""
        loader = DataLoader(
            _Augmented(self.subset, WorkerAugment(self.recipe, schedule.seed)),
            batch_sampler=_keys(schedule, first_step, share),  # type: ignore[arg-type]
            num_workers=self.workers,
            collate_fn=_collate,
            pin_memory=self.device.type == "cuda",
            worker_init_fn=_leave_signals_to_the_trainer,
            prefetch_factor=self.ahead if self.workers else None,
            generator=torch.Generator(),  # draws nothing from the global one
        )
        batches = iter(loader)
        if not self.workers:
            yield from batches
            return
        with Patience(batches._workers, lambda: self.stopping()) as patience:  # type: ignore[attr-defined]
            try:
                while (batch := patience.wait(lambda: next(batches, None))) is not None:
                    yield batch
            finally:  # and not whenever the memory is freed
                patience.end(batches._shutdown_workers)  # type: ignore[attr-defined]

    def expand(self, batch: Batch) -> Pairs:
        return normalise(batch["images"]), batch["masks"].unsqueeze(1).float()


class DeviceLoader:
    """Holds the whole uint8 split on the device and augments there: no loader processes, no copying per batch."""

    def __init__(self, subset: Subset, recipe: Recipe, device: torch.device) -> None:
        self.recipe = recipe
        self.images, self.masks = (torch.from_numpy(array).to(device) for array in subset.arrays())
        self.size = int(self.images.shape[1])

    def batches(self, schedule: Schedule, first_step: int, share: Share) -> Iterator[Batch]:
        """`rows` int64 (B,) of the split, and what happens to each image."""
        for epoch, positions in schedule.batches(first_step):
            positions = share.of(positions)
            draws = on_device.tensors(self.recipe.draw(schedule.seed, epoch, positions, self.size))
            yield {"rows": torch.from_numpy(positions), **draws}

    def expand(self, batch: Batch) -> Pairs:
        rows, draws = batch["rows"], {name: values for name, values in batch.items() if name in on_device.DRAWS}
        return on_device.augment(self.images[rows], self.masks[rows], draws, self.recipe.largest_blur(self.size))


def _keys(schedule: Schedule, first_step: int, share: Share) -> Iterator[list[tuple[int, int]]]:
    for epoch, positions in schedule.batches(first_step):
        yield [(epoch, int(position)) for position in share.of(positions)]


def _collate(samples: list[tuple[np.ndarray, np.ndarray]]) -> Batch:
    images, masks = zip(*samples, strict=True)
    batch = {"images": torch.from_numpy(np.stack(images)), "masks": torch.from_numpy(np.stack(masks))}
    if get_worker_info():  # here, where what goes wrong is told: the thread that would do it drops the batch instead
        for tensor in batch.values():
            tensor.share_memory_()
    return batch


def _leave_signals_to_the_trainer(_: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
