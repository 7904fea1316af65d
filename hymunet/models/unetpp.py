"""U-Net++ (Zhou et al. 2018): nested skips, each node a block over all earlier nodes of its level and one from below.

Without deep supervision: the logits are those of the last node.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hymunet.models.layers.convolution import conv_block, require_multiple
from hymunet.models.layers.resampling import Bilinear


class UNetPlusPlus(nn.Module):
    """images (B, 3, H, W) -> logits (B, 1, H, W); H and W multiples of 2**(len(channels) - 1).

    channels: of the levels, the first at full resolution. nodes["i,j"] is X^{i,j} of the paper.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.depth = len(channels)
        self.stride = 2 ** (self.depth - 1)
        self.pool = nn.MaxPool2d(2)
        self.upsample = Bilinear(2, align_corners=True)
        inputs = [3, *channels]
        self.nodes = nn.ModuleDict()
        for column in range(self.depth):
            for level in range(self.depth - column):
                width = column * channels[level] + channels[level + 1] if column else inputs[level]
                self.nodes[f"{level},{column}"] = conv_block(width, channels[level], bias=True)
        self.head = nn.Conv2d(channels[0], 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        require_multiple(images, self.stride)
        levels: list[list[Tensor]] = []
        x = images
        for level in range(self.depth):
            levels.append([self.nodes[f"{level},0"](self.pool(x) if level else x)])
            x = levels[-1][0]
        for column in range(1, self.depth):
            for level in range(self.depth - column):
                below = self.upsample(levels[level + 1][column - 1])
                levels[level].append(self.nodes[f"{level},{column}"](torch.cat([*levels[level], below], dim=1)))
        return self.head(levels[0][-1])
