"""The U-Net's shape: levels of convolution blocks down and up, a skip between the two of each resolution."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hymunet.models.layers.convolution import conv_block, require_multiple, upsample


class UShape(nn.Module):
    """images (B, 3, H, W) -> logits (B, 1, H, W); H and W multiples of 2**(len(channels) - 1).

    channels: of the levels, the first at full resolution. refinements: a layer a level, which refines what the level's
    block encodes before it goes on down and over the skip.
    """

    def __init__(self, channels: Sequence[int], refinements: Sequence[nn.Module] = ()) -> None:
        super().__init__()
        self.stride = 2 ** (len(channels) - 1)
        blocks = [conv_block(a, b) for a, b in zip([3, *channels], channels, strict=False)]
        for block, refinement in zip(blocks, refinements, strict=False):
            block.append(refinement)
        self.encoder = nn.ModuleList(blocks)
        self.pool = nn.MaxPool2d(2)
        pairs = list(zip(channels[:0:-1], channels[-2::-1], strict=True))
        self.upsample = nn.ModuleList(upsample(deep, width) for deep, width in pairs)
        self.decoder = nn.ModuleList(conv_block(2 * width, width) for _, width in pairs)
        self.head = nn.Conv2d(channels[0], 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        require_multiple(images, self.stride)
        x, skips = self.encoder[0](images), []
        for level in list(self.encoder)[1:]:
            skips.append(x)
            x = level(self.pool(x))
        for up, refine in zip(self.upsample, self.decoder, strict=True):
            x = refine(torch.cat([skips.pop(), up(x)], dim=1))
        return self.head(x)
