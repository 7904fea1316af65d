"""U-Net (Ronneberger et al. 2015) with batch norm and same-size convolutions, the baseline of both tables."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hymunet.models.layers.convolution import conv_block, upsample


class UNet(nn.Module):
    """images (B, 3, H, W) -> logits (B, 1, H, W); H and W multiples of 2**(len(channels) - 1).

    channels: of the levels, the first at full resolution.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.stride = 2 ** (len(channels) - 1)
        self.encoder = nn.ModuleList(conv_block(a, b) for a, b in zip([3, *channels], channels, strict=False))
        self.pool = nn.MaxPool2d(2)
        pairs = list(zip(channels[:0:-1], channels[-2::-1], strict=True))
        self.upsample = nn.ModuleList(upsample(deep, width) for deep, width in pairs)
        self.decoder = nn.ModuleList(conv_block(2 * width, width) for _, width in pairs)
        self.head = nn.Conv2d(channels[0], 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        if height % self.stride or width % self.stride:
            raise ValueError(f"image size {height}×{width}: both sides must be multiples of {self.stride}")
        x, skips = self.encoder[0](images), []
        for level in list(self.encoder)[1:]:
            skips.append(x)
            x = level(self.pool(x))
        for up, refine in zip(self.upsample, self.decoder, strict=True):
            x = refine(torch.cat([skips.pop(), up(x)], dim=1))
        return self.head(x)
