"""CE-Net (Gu et al. 2019): a ResNet-34 encoder, dense atrous convolutions and multi-kernel pooling, a slim decoder."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from hymunet.models.layers.convolution import require_multiple
from hymunet.models.layers.resampling import Bilinear

BLOCKS = (3, 4, 6, 3)  # of ResNet-34
POOLS = (2, 3, 5, 6)  # kernels of the multi-kernel pooling, in pixels of the deepest map


class BasicBlock(nn.Module):
    """ResNet's block of two 3×3 convolutions."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != channels:
            pointwise = nn.Conv2d(in_channels, channels, 1, stride, bias=False)
            self.shortcut = nn.Sequential(pointwise, nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


class DenseAtrousConvolution(nn.Module):
    """DAC: four cascades of convolutions with rates 1, 3 and 5, which share their weights, added to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.rate1, self.rate3, self.rate5 = (
            nn.Conv2d(channels, channels, 3, padding=rate, dilation=rate) for rate in (1, 3, 5)
        )
        self.pointwise = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        one = self.rate1(x)
        one_three = self.rate3(one)
        cascades = (self.rate3(x), one_three, self.rate5(one_three))
        return x + torch.relu(one) + sum(torch.relu(self.pointwise(cascade)) for cascade in cascades)


class ResidualMultiKernelPooling(nn.Module):
    """RMP: maxima over windows of four sizes, one channel each by one shared convolution, beside the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pointwise = nn.Conv2d(channels, 1, 1)
        self.resize = Bilinear()

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        maps = []
        for pool in POOLS:
            kernel = min(pool, height, width)  # small images have small maps
            pooled = functional.max_pool2d(x, kernel, kernel)
            maps.append(self.resize(self.pointwise(pooled), (height, width)))
        return torch.cat([*maps, x], dim=1)


class DecoderBlock(nn.Sequential):
    """1×1 convolution to a quarter of the channels, transposed 3×3 convolution, 1×1 convolution: twice the size."""

    def __init__(self, in_channels: int, channels: int) -> None:
        hidden = in_channels // 4
        super().__init__(
            nn.Conv2d(in_channels, hidden, 1),
            nn.BatchNorm2d(hidden),
            nn.ReLU(inplace=True),
            nn.ConvTranspose2d(hidden, hidden, 3, stride=2, padding=1, output_padding=1),
            nn.BatchNorm2d(hidden),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, channels, 1),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        )


class CENet(nn.Module):
    """images (B, 3, H, W) -> logits (B, 1, H, W); H and W multiples of 32.

    channels: of ResNet's four stages, at H/4, H/8, H/16 and H/32; the published ones are 64, 128, 256, 512.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        first = channels[0]
        self.stem = nn.Sequential(
            nn.Conv2d(3, first, 7, stride=2, padding=3, bias=False), nn.BatchNorm2d(first), nn.ReLU(inplace=True)
        )
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.stages = nn.ModuleList()
        for index, (width_in, width, count) in enumerate(zip([first, *channels], channels, BLOCKS, strict=False)):
            blocks = [BasicBlock(width_in, width, stride=2 if index else 1)]
            blocks += [BasicBlock(width, width, stride=1) for _ in range(count - 1)]
            self.stages.append(nn.Sequential(*blocks))
        self.context = nn.Sequential(DenseAtrousConvolution(channels[-1]), ResidualMultiKernelPooling(channels[-1]))
        deep = [channels[-1] + len(POOLS), *channels[-2::-1]]
        self.decoder = nn.ModuleList(DecoderBlock(a, b) for a, b in zip(deep, [*channels[-2::-1], first], strict=True))
        half = first // 2
        self.head = nn.Sequential(
            nn.ConvTranspose2d(first, half, 4, stride=2, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(half, half, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(half, 1, 3, padding=1),
        )

    def forward(self, images: Tensor) -> Tensor:
        require_multiple(images, 32)
        x, skips = self.pool(self.stem(images)), []
        for stage in self.stages:
            x = stage(x)
            skips.append(x)
        x = self.context(skips.pop())
        for block in self.decoder:
            x = block(x)
            if skips:
                x = x + skips.pop()
        return self.head(x)
