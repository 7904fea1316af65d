"""Layers that draw random numbers in training: the same for a sample, however its batch is divided over ranks."""

from torch import Tensor, nn

from hymunet.models.protocols import DrawsPerSample


class DropPath(DrawsPerSample, nn.Module):
    """Stochastic depth (Huang et al. 2016): drops a sample's whole branch with the given rate and rescales the rest."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        keep, (index, count), size = 1 - self.rate, self.share, x.shape[0]
        kept = x.new_empty((count * size, 1, 1, 1)).bernoulli_(keep).div_(keep)
        return x * kept[index * size : (index + 1) * size]


class Dropout(DrawsPerSample, nn.Module):
    """Dropout (Srivastava et al. 2014) of single values; the first dimension is the batch."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        keep, (index, count), size = 1 - self.rate, self.share, x.shape[0]
        kept = x.new_empty((count * size, *x.shape[1:])).bernoulli_(keep).div_(keep)
        return x * kept[index * size : (index + 1) * size]
