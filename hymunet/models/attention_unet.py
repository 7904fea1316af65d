"""Attention U-Net (Oktay et al. 2018) in its widespread 2-D form: nearest upsampling, a gate on every skip."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from hymunet.models.layers.attention import AttentionGate
from hymunet.models.layers.convolution import conv_block, require_multiple
from hymunet.models.layers.resampling import Nearest


class DecoderStage(nn.Module):
    """Upsample, gate the skip by what was upsampled, concatenate, refine."""

    def __init__(self, deep_channels: int, channels: int) -> None:
        super().__init__()
        self.upsample = nn.Sequential(
            Nearest(2),
            nn.Conv2d(deep_channels, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        )
        self.gate = AttentionGate(channels, channels, max(1, channels // 2))
        self.refine = conv_block(2 * channels, channels, bias=True)

    def forward(self, deep: Tensor, skip: Tensor) -> Tensor:
        signal = self.upsample(deep)
        return self.refine(torch.cat([self.gate(skip, signal), signal], dim=1))


class AttentionUNet(nn.Module):
    """images (B, 3, H, W) -> logits (B, 1, H, W); H and W multiples of 2**(len(channels) - 1).

    channels: of the levels, the first at full resolution.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.stride = 2 ** (len(channels) - 1)
        self.encoder = nn.ModuleList(conv_block(a, b, bias=True) for a, b in pairwise([3, *channels]))
        self.pool = nn.MaxPool2d(2)
        self.decoder = nn.ModuleList(DecoderStage(a, b) for a, b in pairwise(reversed(channels)))
        self.head = nn.Conv2d(channels[0], 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        require_multiple(images, self.stride)
        x, skips = self.encoder[0](images), []
        for level in list(self.encoder)[1:]:
            skips.append(x)
            x = level(self.pool(x))
        for stage in self.decoder:
            x = stage(x, skips.pop())
        return self.head(x)
