"""What a training computes: a function of its parameters, its data and the number of the step, and of nothing else."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hymunet import models, params
from hymunet.data.feed.augment import Recipe, keys, permutation
from hymunet.data.feed.dataset import TrainingData
from hymunet.images import normalise
from hymunet.losses import HybridLoss
from hymunet.models.protocols import levels
from hymunet.precision import autocast_dtype
from hymunet.processors import processors
from hymunet.training import device as devices
from hymunet.training import distributed
from hymunet.training.average import AveragedWeights, estimate_statistics
from hymunet.training.capture import Engine, Run
from hymunet.training.checkpoint import Checkpoint
from hymunet.training.loading import Batch, DeviceLoader, Schedule, Share, WorkerLoader
from hymunet.training.progress import Progress
from hymunet.training.shared_memory import plan
from hymunet.training.state import (
    BatchNormGuard,
    Tensors,
    optimizer_tensors,
    parameter_groups,
    restore_optimizer,
    snapshot,
    with_prefix,
    without_prefix,
)
from hymunet.training.step import Step
from hymunet.training.validation import Validation

MAX_BAD_STEPS = 10  # in a row, before a training that only makes non-finite losses stops
STATISTICS_BATCHES = 20  # of training images from which averaged weights get their batch-norm statistics
EXAMPLES = 6  # validation images in a picture of predictions
MEMORY_FOR_IMAGES = 0.5  # of the GPU's free memory, at most; the rest is the training's
STEP_STREAM = 100  # of the keyed random numbers; the augmentations use the low ones
LAYER_STREAM = 101  # of the first layer that draws, and one for every further one


class Learner:
    """Builds a run, restores it where it stopped, and carries it on one step at a time."""

    def __init__(
        self,
        model_params: params.Model,
        train_params: params.Train,
        data: TrainingData,
        ranks: distributed.Ranks,
    ) -> None:
        self.model_params, self.train_params, self.ranks = model_params, train_params, ranks
        if train_params.batch_size % (ranks.count * train_params.accumulate):
            raise ValueError(
                f"train.batch_size {train_params.batch_size} must be a multiple of ranks × train.accumulate "
                f"= {ranks.count} × {train_params.accumulate}"
            )
        self.device = devices.choose(ranks.local)
        self.dtype = autocast_dtype(train_params.precision, self.device)
        self.schedule = Schedule(
            len(data.subset("train")), train_params.batch_size, train_params.epochs, train_params.seed
        )
        self.data = data
        self.loader = self._loader()
        self.step = self._build_step()
        self.engine = Engine(self.step, train_params.compile, self.device, self._say)
        self.run: Run | None = None
        self.validation = Validation(data.subset("validation"), train_params.batch_size, self.device, ranks)
        self.validation_ready = False
        self.progress = Progress()
        self.best: dict[str, Tensor] = {}
        self.examples: dict[str, Tensor] = {}

    def _loader(self) -> DeviceLoader | WorkerLoader:
        subset, recipe = self.data.subset("train"), Recipe.of(self.train_params)
        if self._device_augments():
            return DeviceLoader(subset, recipe, self.device)
        fits = plan(self.train_params.workers, subset.nbytes * self._part() // len(subset), processors())
        if fits.change:
            self._say(fits.change)
        return WorkerLoader(subset, recipe, fits.workers, self.device, fits.ahead)

    def _part(self) -> int:
        """Images of a batch that are this rank's."""
        return self.train_params.batch_size // self.ranks.count

    @property
    def augments_on_device(self) -> bool:
        return isinstance(self.loader, DeviceLoader)

    def _device_augments(self) -> bool:
        """As `train.augment` says, on the same side for all ranks; never where the images leave no room to train."""
        on_gpu, choice = self.device.type == "cuda", self.train_params.augment
        if choice == "workers" or (choice == "auto" and not on_gpu):
            return False
        if not on_gpu:
            return True
        size, free = self.data.subset("train").nbytes, torch.cuda.mem_get_info(self.device)[0]
        (short,) = self.ranks.agree(size > free * MEMORY_FOR_IMAGES)
        if short:
            self._say(
                f"{size / 2**30:.1f} GiB of training images do not fit the GPU's {free / 2**30:.1f} GiB free beside a "
                f"training; {self.train_params.workers} loader processes augment instead"
            )
        return not short

    def _build_step(self) -> Step:
        torch.manual_seed(self.train_params.seed)
        self.model = models.build(self.model_params, self.data.image_size)
        models.start(self.model_params, self.model)
        if self.train_params.sync_batch_norm and self.ranks.count > 1:
            self.model = distributed.synchronise_batch_norm(self.model, self.device)
        self.model.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = torch.optim.AdamW(
            parameter_groups(self.model, self.train_params.weight_decay),
            lr=self.train_params.learning_rate,
            betas=(self.train_params.betas[0], self.train_params.betas[1]),
            fused=True,
            capturable=self.device.type == "cuda",
        )
        train = self.train_params
        self.ema = AveragedWeights(self.model, train.ema_decay) if train.ema_decay else None
        return Step(
            self.model,
            self.optimizer,
            self.ema,
            HybridLoss(train.loss_weights, train.dice_smoothing, train.boundary_radius, levels(self.model)),
            self.loader.expand,
            ranks=self.ranks,
            parts=train.accumulate,
            clip_norm=train.clip_norm,
            sync_batch_norm=train.sync_batch_norm,
            dtype=self.dtype,
        )

    def _say(self, line: str) -> None:
        if self.ranks.first:
            print(f"train: {line}", flush=True)

    @property
    def evaluated(self) -> torch.nn.Module:
        """The model whose Dice counts: the averaged one where averaging is on."""
        return self.ema.model if self.ema else self.model

    def batches(self) -> Iterator[Batch]:
        """This rank's part of every batch from the present step on."""
        return self.loader.batches(self.schedule, self.progress.step, Share(self.ranks.rank, self.ranks.count))

    def learning_rate(self, step: int) -> float:
        """Linear over `warmup_epochs`, then one half-cosine to the last step. It does not follow the batch's size."""
        high, low = self.train_params.learning_rate, self.train_params.min_learning_rate
        warmup = round(self.train_params.warmup_epochs * self.schedule.steps_per_epoch)
        if step < warmup:
            return high * (step + 1) / warmup
        progress = (step - warmup) / max(1, self.schedule.steps - 1 - warmup)
        return low + (high - low) * 0.5 * (1 + math.cos(math.pi * progress))

    def learn(self, batch: Batch) -> None:
        """One optimizer step. Nothing in it waits for the device."""
        inputs = {**batch, **self._step_inputs(len(next(iter(batch.values()))))}
        if self.run is None:
            self.run = self.engine.prepare(inputs)
        torch.manual_seed(int(self._keys(np.array([self.ranks.rank]), STEP_STREAM)[0] >> 1))
        self.run(inputs)
        self.progress.step += 1

    def _step_inputs(self, images: int) -> Tensors:
        """What a step takes beside its batch: the rate, and keys of layers that draw, for this rank's part."""
        places = np.arange(images) + images * self.ranks.rank
        layers = LAYER_STREAM + np.arange(len(self.step.drawing))[:, None]
        on_gpu = self.device.type == "cuda"  # whose fused AdamW takes a float32 tensor
        rate = torch.tensor(self.learning_rate(self.progress.step), dtype=torch.float32 if on_gpu else torch.float64)
        return {"rate": rate, "layer_keys": torch.from_numpy(self._keys(places[None], layers).view(np.int64))}

    def _keys(self, positions: np.ndarray, stream: int | np.ndarray) -> np.ndarray:
        return keys(self.train_params.seed, self.progress.step, positions, stream)

    def finish_epoch(self) -> dict[str, Any]:
        """Validates, keeps the weights if they are the best so far (the earlier epoch wins a tie), writes history.

        Raises ValueError as `check` does.
        """
        progress, epoch = self.progress, self.progress.step // self.schedule.steps_per_epoch
        self._prepare_evaluated()
        if not self.validation_ready:
            self.engine.prepare_validation(self.validation.capture, self.evaluated)
            self.validation_ready = True
        dice = self.validation.dice(self.evaluated, self.step.autocast())
        if progress.best_epoch == 0 or dice > progress.best_dice:
            progress.best_dice, progress.best_epoch = dice, epoch
            self.best = snapshot(self.evaluated)
        every = self.train_params.example_every
        if self.ranks.first and every and epoch % every == 0:  # who writes the pictures
            self.examples[f"{epoch:04d}"] = self.validation.examples(self.evaluated, self.step.autocast(), EXAMPLES)
        total, count, in_a_row, skipped = self.step.totals.tolist()
        self.check(progress.step, int(in_a_row))
        record = {
            "epoch": epoch,
            "step": progress.step,
            "learning_rate": self.learning_rate(progress.step - 1),
            "loss": total / count if count else None,
            "validation_dice": dice,
            "skipped_steps": int(skipped),
        }
        progress.history.append(record)
        self.step.totals[:2] = 0
        return record

    def _prepare_evaluated(self) -> None:
        """Puts what is judged and published into evaluation mode, with the same statistics on all ranks."""
        self.evaluated.eval()
        if self.ema:
            estimate_statistics(self.evaluated, self._statistics_batches(), self.ranks, self.step.autocast())
        else:
            distributed.share_buffers(self.model, self.ranks)

    def _statistics_batches(self) -> Iterator[Tensor]:
        """This rank's part of a fixed choice of training images as they are, in the parts that a step sees."""
        subset, size = self.data.subset("train"), self.train_params.batch_size
        share = Share(self.ranks.rank, self.ranks.count)
        order = permutation(self.train_params.seed, 0, len(subset))
        for start in range(0, min(len(order) - size + 1, STATISTICS_BATCHES * size), size):
            positions = share.of(order[start : start + size])
            images = np.stack([subset[int(position)][0] for position in positions])
            for part in torch.from_numpy(images).to(self.device).chunk(self.train_params.accumulate):
                yield normalise(part)

    def check(self, step: int, bad_in_a_row: int) -> None:
        """Raises ValueError when nothing but non-finite losses came for a while before and in `step`, or ever."""
        if bad_in_a_row >= min(MAX_BAD_STEPS, self.schedule.steps):
            epoch, ids = self._where(step - 1)
            raise ValueError(
                f"epoch {epoch}, step {step}: {bad_in_a_row} steps in a row with a loss that is not finite, the last "
                f"on {', '.join(ids[:4])}, …; lower train.learning_rate or set train.precision to float32"
            )

    def _where(self, step: int) -> tuple[int, list[str]]:
        epoch, positions = next(self.schedule.batches(step))
        return epoch + 1, [self.data.subset("train").ids[position] for position in positions]

    def checkpoint(self) -> Checkpoint:
        ema = with_prefix("ema", self.ema.tensors()) if self.ema else {}
        return Checkpoint(
            self.progress.step,
            {
                **with_prefix("model", self.model.state_dict()),
                **with_prefix("optimizer", optimizer_tensors(self.optimizer, self.model)),
                **ema,
                **with_prefix("best", self.best),
                **with_prefix("examples", self.examples),
                "totals": self.step.totals,
            },
            self.progress.to_json(),
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        tensors = checkpoint.tensors
        self.model.load_state_dict(without_prefix("model", tensors))
        if checkpoint.step:
            restore_optimizer(self.optimizer, self.model, without_prefix("optimizer", tensors))
        if self.ema:
            self.ema.restore(without_prefix("ema", tensors))
        self.best = without_prefix("best", tensors)
        self.examples = without_prefix("examples", tensors)
        self.step.totals.copy_(tensors["totals"])
        self.step.guard = BatchNormGuard(self.model)
        self.run = None  # a graph would look for the moments where they were
        self.progress = Progress.from_json(checkpoint.state)
