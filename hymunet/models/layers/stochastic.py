"""Layers that draw random numbers in training: the same for a sample, however its batch is divided over ranks."""

import torch
from torch import Tensor, nn

from hymunet import counter
from hymunet.models.protocols import DrawsPerSample


class DropPath(DrawsPerSample, nn.Module):
    """Stochastic depth (Huang et al. 2016): drops a sample's whole branch with the given rate and rescales the rest."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        return x * _kept(counter.uniforms(_keys(self, x)), self.rate, x).view(-1, *[1] * (x.dim() - 1))


class Dropout(DrawsPerSample, nn.Module):
    """Dropout (Srivastava et al. 2014) of single values; the first dimension is the batch."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        return x * _kept(counter.uniforms(counter.spread(_keys(self, x), x.shape[1:])), self.rate, x)


def _keys(layer: DrawsPerSample, x: Tensor) -> Tensor:
    if layer.keys is None:
        return torch.randint(torch.iinfo(torch.int64).min, torch.iinfo(torch.int64).max, x.shape[:1], device=x.device)
    return layer.keys


def _kept(draws: Tensor, rate: float, x: Tensor) -> Tensor:
    return (draws < 1 - rate).to(x.dtype) / (1 - rate)
