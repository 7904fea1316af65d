"""Averaged weights: an exponential average of the weights, as a model with batch-norm statistics of its own."""

import copy
from collections.abc import Iterable
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from hymunet.training.distributed import Ranks
from hymunet.training.state import Tensors, with_prefix, without_prefix


class AveragedWeights:
    """After n steps the average keeps min(decay, (1 + n) / (10 + n)) of itself at the next one.

    A constant decay would hold on to the initial, random weights for about 1 / (1 - decay) steps.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.averaged: list[Tensor] = list(self.model.parameters())
        self.live: list[Tensor] = list(model.parameters())
        self.count = torch.zeros((), dtype=torch.int64, device=self.live[0].device)

    @torch.no_grad()
    def update(self, good: Tensor) -> None:
        """good: bool scalar on the device; a step that was not good moves nothing. The host is not asked."""
        keep = ((1 + self.count) / (10 + self.count)).clamp(max=self.decay)
        way = torch._foreach_sub(self.live, self.averaged)
        torch._foreach_mul_(way, torch.where(good, 1 - keep, 0.0))
        torch._foreach_add_(self.averaged, way)
        self.count += good

    def tensors(self) -> Tensors:
        return {**with_prefix("model", self.model.state_dict()), "count": self.count}

    def restore(self, tensors: Tensors) -> None:
        self.model.load_state_dict(without_prefix("model", tensors))
        self.count.copy_(tensors["count"])


@torch.no_grad()
def estimate_statistics(
    model: nn.Module, batches: Iterable[Tensor], ranks: Ranks, autocast: AbstractContextManager
) -> None:
    """Sets batch norm's running statistics to their means over batches of images (B, 3, S, S), this rank's share.

    Those of the weights that were averaged do not fit the average. The result is the same on all ranks.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    model.eval()
    for norm in norms:
        norm.train()
        norm.reset_running_stats()
    for done, images in enumerate(batches):
        for norm in norms:
            norm.momentum = 1 / (done + 1)
        with autocast:
            model(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.eval()
        norm.momentum = momentum
        for statistic in (norm.running_mean, norm.running_var):
            if statistic is not None:
                ranks.sum_on_device(statistic).div_(ranks.count)
