"""What a training computes: a function of its parameters, its data and the number of the step, and of nothing else."""

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hymunet import models, params
from hymunet.data.feed.augment import keys, permutation
from hymunet.data.feed.dataset import TrainingData
from hymunet.images import normalise
from hymunet.losses import HybridLoss, boundary_band
from hymunet.training import device as devices
from hymunet.training import distributed
from hymunet.training.average import AveragedWeights, estimate_statistics
from hymunet.training.checkpoint import Checkpoint
from hymunet.training.loading import Batch, DeviceLoader, Schedule, Share, WorkerLoader
from hymunet.training.progress import Progress, Readout
from hymunet.training.state import (
    BatchNormGuard,
    optimizer_tensors,
    parameter_groups,
    restore_optimizer,
    snapshot,
    with_prefix,
    without_prefix,
)
from hymunet.training.validation import Validation

MAX_BAD_STEPS = 10  # in a row, before a training that only makes non-finite losses stops
STATISTICS_BATCHES = 20  # of training images from which averaged weights get their batch-norm statistics
EXAMPLES = 6  # validation images in a picture of predictions
STEP_STREAM = 100  # of the keyed random numbers; the augmentations use the low ones


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
        self.dtype = devices.autocast_dtype(train_params.precision, self.device)
        self.schedule = Schedule(
            len(data.subset("train")), train_params.batch_size, train_params.epochs, train_params.seed
        )
        self.data = data
        self._build_model()
        self.validation = Validation(data.subset("validation"), train_params.batch_size, self.device, ranks)
        self.progress = Progress()
        self.best: dict[str, Tensor] = {}
        self.examples: dict[str, Tensor] = {}
        self.totals = torch.zeros(4, dtype=torch.float64, device=self.device)  # see `learn`

    def _build_model(self) -> None:
        torch.manual_seed(self.train_params.seed)
        self.model = models.build(self.model_params, self.data.image_size)
        if self.train_params.sync_batch_norm and self.ranks.count > 1:
            self.model = distributed.synchronise_batch_norm(self.model, self.device)
        self.model.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.loss = HybridLoss(
            self.train_params.loss_weights, self.train_params.dice_smoothing, self.train_params.boundary_radius
        )
        self.optimizer = torch.optim.AdamW(
            parameter_groups(self.model, self.train_params.weight_decay),
            lr=self.train_params.learning_rate,
            betas=(self.train_params.betas[0], self.train_params.betas[1]),
            fused=True,
        )
        decay = self.train_params.ema_decay
        self.ema = AveragedWeights(self.model, decay) if decay else None
        self.guard = BatchNormGuard(self.model)
        self.parallel = distributed.parallel(self.model, self.ranks, self.device, self.train_params.sync_batch_norm)
        if self.train_params.compile:
            devices.require_compilers(self.device)
        self.forward = torch.compile(self.parallel) if self.train_params.compile else self.parallel

    @property
    def evaluated(self) -> torch.nn.Module:
        """The model whose Dice counts: the averaged one where averaging is on."""
        return self.ema.model if self.ema else self.model

    def autocast(self) -> AbstractContextManager:
        return torch.autocast(self.device.type, self.dtype or torch.bfloat16, enabled=self.dtype is not None)

    def batches(self) -> Iterator[Batch]:
        """This rank's part of every batch from the present step on."""
        subset, degrees = self.data.subset("train"), self.train_params.rotation_degrees
        loader: DeviceLoader | WorkerLoader
        if self.train_params.augment == "device":
            loader = DeviceLoader(subset, degrees, self.device)
        else:
            loader = WorkerLoader(subset, degrees, self.train_params.workers, self.device)
        return loader.batches(self.schedule, self.progress.step, Share(self.ranks.rank, self.ranks.count))

    def learning_rate(self, step: int) -> float:
        """One half-cosine from the first step to the last."""
        high, low = self.train_params.learning_rate, self.train_params.min_learning_rate
        return low + (high - low) * 0.5 * (1 + math.cos(math.pi * step / max(1, self.schedule.steps - 1)))

    def learn(self, images: Tensor, masks: Tensor) -> None:
        """One optimizer step. Nothing in it waits for the device.

        A step whose loss or gradient is not finite changes nothing but the counters. `totals` are, on the device: the
        sum of this epoch's finite losses, their number, bad steps in a row, and bad steps in all.
        """
        step, parts = self.progress.step, self.train_params.accumulate
        self.model.train()
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(step)
        seed = int(keys(self.train_params.seed, step, np.zeros(1), STEP_STREAM)[0] >> 1)
        bands = self._band_pixels(masks)
        loss = torch.zeros((), device=self.device)
        for part, (x, y) in enumerate(zip(images.chunk(parts), masks.chunk(parts), strict=True)):
            torch.manual_seed(seed)
            distributed.assign_share(self.model, self.ranks.rank * parts + part, self.ranks.count * parts)
            with distributed.accumulating(self.parallel, last=part == parts - 1):
                with self.autocast():
                    logits = self.forward(x)
                part_loss = self.loss(logits, y, bands) / parts
                part_loss.backward()
            loss += part_loss.detach()
        loss = self.ranks.sum_on_device(loss) / self.ranks.count
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.model.parameters() if p.grad is not None])
        good = torch.isfinite(loss) & torch.isfinite(norm)
        self.guard.keep(good)
        self.optimizer.found_inf = (~good).float()  # type: ignore[attr-defined]  # the fused kernel then does nothing
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.ema:
            self.ema.update(good)
        one, bad = good.double(), (~good).double()
        self.totals = torch.stack(
            [
                self.totals[0] + loss.double().masked_fill(~good, 0.0),
                self.totals[1] + one,
                (self.totals[2] + bad) * bad,
                self.totals[3] + bad,
            ]
        )
        self.progress.step += 1

    def _band_pixels(self, masks: Tensor) -> Tensor | None:
        """Boundary pixels per part of a batch that is split over ranks or accumulated, as the loss needs their mean."""
        parts = self.ranks.count * self.train_params.accumulate
        if parts == 1:
            return None
        return self.ranks.sum_on_device(boundary_band(masks, self.loss.radius(masks)).sum()) / parts

    def finish_epoch(self) -> dict[str, Any]:
        """Validates, keeps the weights if they are the best so far (the earlier epoch wins a tie), writes history."""
        progress, epoch = self.progress, self.progress.step // self.schedule.steps_per_epoch
        self._prepare_evaluated()
        dice = self.validation.dice(self.evaluated, self.autocast())
        if progress.best_epoch == 0 or dice > progress.best_dice:
            progress.best_dice, progress.best_epoch = dice, epoch
            self.best = snapshot(self.evaluated)
        if self.train_params.example_every and epoch % self.train_params.example_every == 0:
            self.examples[f"{epoch:04d}"] = self.validation.examples(self.evaluated, self.autocast(), EXAMPLES)
        total, count, _, skipped = self.totals.tolist()
        record = {
            "epoch": epoch,
            "step": progress.step,
            "learning_rate": self.learning_rate(progress.step - 1),
            "loss": total / count if count else None,
            "validation_dice": dice,
            "skipped_steps": int(skipped),
        }
        progress.history.append(record)
        self.totals[:2] = 0
        return record

    def _prepare_evaluated(self) -> None:
        """Puts what is judged and published into evaluation mode, with the same statistics on all ranks."""
        self.evaluated.eval()
        if self.ema:
            estimate_statistics(self.evaluated, self._statistics_batches(), self.ranks, self.autocast())
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

    def check(self, readout: Readout) -> None:
        """Raises ValueError when nothing but non-finite losses came for a while; looks at values that are ready."""
        if readout.bad_in_a_row >= MAX_BAD_STEPS:
            epoch, ids = self._where(readout.step - 1)
            raise ValueError(
                f"epoch {epoch}, step {readout.step}: {readout.bad_in_a_row} steps in a row with a loss that is not "
                f"finite, the last on {', '.join(ids[:4])}, …; lower train.learning_rate or set train.precision to "
                "float32"
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
                "totals": self.totals,
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
        self.totals = tensors["totals"].to(self.device)
        self.guard = BatchNormGuard(self.model)
        self.progress = Progress.from_json(checkpoint.state)
