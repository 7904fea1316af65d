"""TransUNet (Chen et al. 2021): a ResNet-50 with group norm, a vision transformer at H/16, a cascaded decoder."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from hymunet.models.layers.convolution import require_multiple
from hymunet.models.layers.resampling import Bilinear
from hymunet.models.layers.stochastic import Dropout
from hymunet.models.layers.transformer import TransformerBlock
from hymunet.models.protocols import SparesDecay

BLOCKS = (3, 4, 9)  # of the three stages of the hybrid R50, which moves the fourth stage's blocks into the third
DROPOUT = 0.1


class StandardizedConv(nn.Conv2d):
    """A convolution whose weights have mean 0 and variance 1 for each output channel (Qiao et al. 2019)."""

    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(self.weight, dim=(1, 2, 3), keepdim=True, unbiased=False)
        weight = (self.weight - mean) * torch.rsqrt(variance + 1e-5)
        return functional.conv2d(x, weight, self.bias, self.stride, self.padding)


def group_norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(min(32, channels), channels, eps=1e-6)


class Bottleneck(nn.Module):
    """1×1, 3×3 and 1×1 convolutions beside the input."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        hidden = channels // 4
        self.body = nn.Sequential(
            StandardizedConv(in_channels, hidden, 1, bias=False),
            group_norm(hidden),
            nn.ReLU(inplace=True),
            StandardizedConv(hidden, hidden, 3, stride, padding=1, bias=False),
            group_norm(hidden),
            nn.ReLU(inplace=True),
            StandardizedConv(hidden, channels, 1, bias=False),
            group_norm(channels),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != channels:
            pointwise = StandardizedConv(in_channels, channels, 1, stride, bias=False)
            self.shortcut = nn.Sequential(pointwise, nn.GroupNorm(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


class DecoderStage(nn.Module):
    """Twice the size, the skip beside it, two 3×3 convolutions."""

    def __init__(self, deep_channels: int, skip_channels: int, channels: int) -> None:
        super().__init__()
        self.upsample = Bilinear(2, align_corners=True)
        first = convolution(deep_channels + skip_channels, channels)
        self.refine = nn.Sequential(*first, *convolution(channels, channels))

    def forward(self, deep: Tensor, skip: Tensor | None) -> Tensor:
        x = self.upsample(deep)
        return self.refine(x if skip is None else torch.cat([x, skip], dim=1))


def convolution(in_channels: int, channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)
    )


class TransUNet(SparesDecay, nn.Module):
    """images (B, 3, S, S) -> logits (B, 1, S, S), S the image size it was built for, a multiple of 16.

    trunk: channels of the stem; the stages have 4, 8 and 16 times as many. tokens, layers, heads, hidden: of the
    transformer. decoder: channels after the transformer and of the four decoder stages.
    """

    undecayed = ("positions",)

    def __init__(
        self, image_size: int, trunk: int, tokens: int, layers: int, heads: int, hidden: int, decoder: Sequence[int]
    ) -> None:
        super().__init__()
        self.image_size = image_size
        self.stem = nn.Sequential(
            StandardizedConv(3, trunk, 7, stride=2, padding=3, bias=False), group_norm(trunk), nn.ReLU(inplace=True)
        )
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        widths = [4 * trunk, 8 * trunk, 16 * trunk]
        self.stages = nn.ModuleList()
        for index, (width_in, width, count) in enumerate(zip([trunk, *widths], widths, BLOCKS, strict=False)):
            blocks = [Bottleneck(width_in, width, stride=2 if index else 1)]
            blocks += [Bottleneck(width, width, stride=1) for _ in range(count - 1)]
            self.stages.append(nn.Sequential(*blocks))
        self.projection = nn.Conv2d(widths[-1], tokens, 1)
        self.positions = nn.Parameter(torch.zeros(1, (image_size // 16) ** 2, tokens))
        self.dropout = Dropout(DROPOUT)
        self.transformer = nn.Sequential(*(TransformerBlock(tokens, heads, hidden, DROPOUT) for _ in range(layers)))
        self.norm = nn.LayerNorm(tokens, eps=1e-6)
        self.bridge = convolution(tokens, decoder[0])
        skips = [widths[1], widths[0], trunk, 0]
        self.decoder = nn.ModuleList(
            DecoderStage(deep, skip, width) for deep, skip, width in zip(decoder, skips, decoder[1:], strict=False)
        )
        self.head = nn.Conv2d(decoder[-1], 1, 3, padding=1)
        for module in self.transformer.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.normal_(module.bias, std=1e-6)

    def forward(self, images: Tensor) -> Tensor:
        require_multiple(images, 16)
        if images.shape[-2:] != (self.image_size, self.image_size):
            raise ValueError(
                f"image size {images.shape[-2]}×{images.shape[-1]}: this model was built for "
                f"{self.image_size}×{self.image_size}"
            )
        skips = [self.stem(images)]
        x = self.pool(skips[0])
        for stage in self.stages:
            x = stage(x)
            skips.append(x)
        skips.pop()
        x = self.projection(x)
        batch, channels, height, width = x.shape
        tokens = x.permute(0, 2, 3, 1).reshape(batch, height * width, channels)
        tokens = self.norm(self.transformer(self.dropout(tokens + self.positions)))
        x = self.bridge(tokens.reshape(batch, height, width, channels).permute(0, 3, 1, 2))
        for stage in self.decoder:
            x = stage(x, skips.pop() if skips else None)
        return self.head(x)
