"""ResUNet (Zhang et al. 2018): a U-Net of pre-activated residual units, strides in place of pooling."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from hymunet.models.layers.convolution import require_multiple, upsample


class ResidualUnit(nn.Module):
    """[batch norm, ReLU, 3×3 convolution] twice, beside a 3×3 convolution with batch norm."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(in_channels),
            nn.ReLU(),
            nn.Conv2d(in_channels, channels, 3, stride, padding=1),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )
        self.shortcut = nn.Sequential(nn.Conv2d(in_channels, channels, 3, stride, padding=1), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) + self.shortcut(x)


class ResUNet(nn.Module):
    """images (B, 3, H, W) -> logits (B, 1, H, W); H and W multiples of 2**(len(channels) - 1).

    channels: of the levels, the first at full resolution, the last the bridge.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.stride = 2 ** (len(channels) - 1)
        first = channels[0]
        self.stem = nn.Sequential(
            nn.Conv2d(3, first, 3, padding=1), nn.BatchNorm2d(first), nn.ReLU(), nn.Conv2d(first, first, 3, padding=1)
        )
        self.stem_shortcut = nn.Conv2d(3, first, 3, padding=1)
        self.encoder = nn.ModuleList(ResidualUnit(a, b, stride=2) for a, b in pairwise(channels))
        pairs = list(pairwise(reversed(channels)))
        self.upsample = nn.ModuleList(upsample(deep, deep) for deep, _ in pairs)
        self.decoder = nn.ModuleList(ResidualUnit(deep + width, width, stride=1) for deep, width in pairs)
        self.head = nn.Conv2d(first, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        require_multiple(images, self.stride)
        x, skips = self.stem(images) + self.stem_shortcut(images), []
        for unit in self.encoder:
            skips.append(x)
            x = unit(x)
        for up, unit in zip(self.upsample, self.decoder, strict=True):
            x = unit(torch.cat([up(x), skips.pop()], dim=1))
        return self.head(x)
