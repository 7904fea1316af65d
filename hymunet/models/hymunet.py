"""HyM-UNet: convolutions where resolution is high, state spaces where context is wide (section III of the paper).

What the paper does not fix is read so: the patch embedding is a 3×3 convolution at full resolution, so that each of the
four decoder stages has an encoder feature to fuse; merging 2×2 patches opens every encoder stage; two blocks a stage.
"""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from hymunet.models.layers.convolution import ResidualConvBlock, conv_block, downsample, upsample
from hymunet.models.layers.fusion import MambaGuidedFusion
from hymunet.models.layers.state_space import VisualStateSpaceBlock

BLOCKS = 2  # per encoder stage


class DecoderStage(nn.Module):
    """Upsample, fuse with the encoder's feature, refine."""

    def __init__(self, deep_channels: int, channels: int) -> None:
        super().__init__()
        self.upsample = upsample(deep_channels, channels)
        self.fusion = MambaGuidedFusion(channels)
        self.refine = conv_block(2 * channels, channels)

    def forward(self, deep: Tensor, encoded: Tensor) -> Tensor:
        return self.refine(self.fusion(self.upsample(deep), encoded))


class HyMUNet(nn.Module):
    """images (B, 3, H, W) -> logits (B, 1, H, W); H and W multiples of 16.

    channels: of the four encoder stages, at H/2, H/4, H/8 and H/16. The first two stages are residual convolution
    blocks, the last two visual state space blocks, over which stochastic depth grows linearly up to `drop_path`.
    """

    stride = 16

    def __init__(self, channels: Sequence[int], drop_path: float = 0.0) -> None:
        super().__init__()
        widths = [channels[0] // 2, *channels]
        self.embedding = nn.Sequential(
            nn.Conv2d(3, widths[0], 3, padding=1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU(inplace=True)
        )
        rates = iter([drop_path * i / (2 * BLOCKS - 1) for i in range(2 * BLOCKS)])
        self.stages = nn.ModuleList()
        for index, (width_in, width) in enumerate(pairwise(widths)):
            blocks: list[nn.Module] = [
                ResidualConvBlock(width) if index < 2 else VisualStateSpaceBlock(width, drop_path=next(rates))
                for _ in range(BLOCKS)
            ]
            self.stages.append(nn.Sequential(downsample(width_in, width), *blocks))
        self.decoder = nn.ModuleList(
            DecoderStage(deep, width) for deep, width in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.head = nn.Conv2d(widths[0], 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        if height % self.stride or width % self.stride:
            raise ValueError(f"image size {height}×{width}: both sides must be multiples of {self.stride}")
        features = [self.embedding(images)]
        for stage in self.stages:
            features.append(stage(features[-1]))
        decoded = features.pop()
        for stage in self.decoder:
            decoded = stage(decoded, features.pop())
        return self.head(decoded)
