"""One optimizer step on tensors that stay where they are: the same code runs by itself, compiled, and as a CUDA graph.

Nothing in it asks the host for anything. What differs from step to step comes in as tensors: images or their places,
draws of the augmentation, keys of layers that draw, the learning rate.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from hymunet.losses import HybridLoss
from hymunet.models.protocols import draws
from hymunet.training import distributed
from hymunet.training.average import AveragedWeights
from hymunet.training.device import make_compiler_deterministic
from hymunet.training.state import BatchNormGuard, Tensors, create_moments

Expand = Callable[[Tensors], tuple[Tensor, Tensor]]
LossOf = Callable[[Tensor, Tensor, Sequence[Tensor] | None], Tensor]


class Step:
    """What an optimizer step reads and changes, all on one device.

    expand: a loader's batch -> images float32 (B, 3, S, S) in [-1, 1], channels-last, masks float32 (B, 1, S, S).
    clip_norm: of all gradients together, at most; 0: whatever it is.
    totals: the sum of this epoch's finite losses, their number, bad steps in a row, and bad steps in all.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        ema: AveragedWeights | None,
        loss: HybridLoss,
        expand: Expand,
        *,
        ranks: distributed.Ranks,
        parts: int,
        clip_norm: float,
        sync_batch_norm: bool,
        dtype: torch.dtype | None,
    ) -> None:
        self.model, self.optimizer, self.ema, self.loss, self.expand = model, optimizer, ema, loss, expand
        self.ranks, self.parts, self.clip_norm, self.dtype = ranks, parts, clip_norm, dtype
        self.device = next(model.parameters()).device
        self.parallel = distributed.parallel(model, ranks, self.device, sync_batch_norm)
        self.drawing = list(draws(model))
        self.guard = BatchNormGuard(model)
        self.totals = torch.zeros(4, dtype=torch.float64, device=self.device)
        self.compile(False)

    def compile(self, on: bool = True) -> None:
        """Of the arithmetic alone: optimizer and counters are few kernels without it."""
        self.compiled = on
        if on:
            torch.compiler.reset()  # it keeps a few versions of a function, and none for a learner that is gone
            make_compiler_deterministic()
        self.expanded: Expand = torch.compile(self.expand, dynamic=False) if on else self.expand
        self.loss_of: LossOf = torch.compile(self._loss, dynamic=False) if on else self._loss

    def autocast(self) -> AbstractContextManager:
        """Without its cache of converted weights on a GPU, as a graph must convert them anew."""
        on, kind = self.dtype is not None, self.device.type
        return torch.autocast(kind, self.dtype or torch.bfloat16, enabled=on, cache_enabled=kind != "cuda")

    def __call__(self, inputs: Tensors) -> None:
        """inputs: a loader's batch; `rate` (), the learning rate; `layer_keys` (layers, B) of those that draw.

        A step whose loss or gradient is not finite changes nothing but the counters.
        """
        self.model.train()
        images, masks = self.expanded(inputs)
        loss = self._gradients(images, masks, inputs["layer_keys"])
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.model.parameters() if p.grad is not None])
        good = torch.isfinite(loss) & torch.isfinite(norm)
        if self.clip_norm:
            torch.nn.utils.clip_grads_with_norm_(self.model.parameters(), self.clip_norm, norm)
        self.guard.keep(good)
        self._optimize(good, inputs["rate"])
        self._count(good, loss)

    def _gradients(self, images: Tensor, masks: Tensor, layer_keys: Tensor) -> Tensor:
        """The loss of the whole batch over all ranks; its gradient is in the parameters' `grad`."""
        bands = self._band_pixels(masks)
        loss = torch.zeros((), device=self.device)
        parts = (images.chunk(self.parts), masks.chunk(self.parts), layer_keys.chunk(self.parts, 1))
        for part, (x, y, rows) in enumerate(zip(*parts, strict=True)):
            for layer, row in zip(self.drawing, rows, strict=True):
                layer.keys = row
            with distributed.accumulating(self.parallel, last=part == self.parts - 1):
                part_loss = self.loss_of(x, y, bands) / self.parts
                part_loss.backward()
            loss += part_loss.detach()
        return self.ranks.sum_on_device(loss) / self.ranks.count

    def _loss(self, images: Tensor, masks: Tensor, bands: Sequence[Tensor] | None) -> Tensor:
        with self.autocast():
            logits = self.parallel(images)
        return self.loss(logits, masks, bands)

    def _band_pixels(self, masks: Tensor) -> Sequence[Tensor] | None:
        """Boundary pixels per part of a batch that is split over ranks or accumulated, as the loss needs their mean."""
        parts = self.ranks.count * self.parts
        if parts == 1:
            return None
        return (self.ranks.sum_on_device(self.loss.band_pixels(masks)).clamp(min=1) / parts).unbind()

    def _optimize(self, good: Tensor, rate: Tensor) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = rate if rate.is_cuda else rate.item()
        self.optimizer.found_inf = (~good).float()  # type: ignore[attr-defined]  # the fused kernel then does nothing
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.ema:
            self.ema.update(good)

    def _count(self, good: Tensor, loss: Tensor) -> None:
        total, count, in_a_row, bad_steps = self.totals.unbind()
        one, bad = good.double(), (~good).double()
        self.totals.copy_(
            torch.stack(
                [
                    total + loss.double().masked_fill(~good, 0.0),
                    count + one,
                    (in_a_row + bad) * bad,
                    bad_steps + bad,
                ]
            )
        )

    def create_state(self) -> None:
        """Makes what the first step would make, so that `state` is complete before it."""
        create_moments(self.optimizer)

    def state(self) -> list[Tensor]:
        """Every tensor that a step changes in place and that outlives it."""
        moments = [tensor for state in self.optimizer.state.values() for tensor in state.values()]
        averaged = list(self.ema.tensors().values()) if self.ema else []
        return [*self.model.state_dict().values(), *moments, *averaged, self.guard.kept, self.totals]
