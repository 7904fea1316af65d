"""HyM-UNet: convolutions where resolution is high, state spaces where context is wide (section III of the paper).

What the paper does not fix is read so: the patch embedding is a 3×3 convolution at full resolution, so that each of the
four decoder stages has an encoder feature to fuse; merging 2×2 patches opens every encoder stage; two blocks a stage.
"""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from hymunet.models import pretrained
from hymunet.models.layers.convolution import ResidualConvBlock, conv_block, downsample, require_multiple, upsample
from hymunet.models.layers.efficientnet_lite import SCALES, EfficientNetLite
from hymunet.models.layers.fusion import Concatenation, FusionFromBoth, MambaGuidedFusion
from hymunet.models.layers.state_space import VisualStateSpaceBlock
from hymunet.models.protocols import Supervised

BLOCKS = 2  # per encoder stage
HYBRID = 2  # the first stage of state space blocks
FIRST_SCAN = {"hybrid": HYBRID, "mamba": 0, "cnn": 4} | dict.fromkeys(SCALES, HYBRID)


def fusion_of(kind: str, channels: int) -> nn.Module:
    """decoder: the paper's; both: its gate hears the encoder too; none: plain concatenation."""
    if kind == "decoder":
        return MambaGuidedFusion(channels)
    return FusionFromBoth(2 * channels) if kind == "both" else Concatenation()


def convolutions_of_equal_size(channels: int, directions: int) -> ResidualConvBlock:
    """A residual convolution block with as many parameters as a state space block, by the channels between its two."""
    scanning = sum(part.numel() for part in VisualStateSpaceBlock(channels, directions=directions).parameters())
    fixed, each = 2 * channels, 2 * 9 * channels + 2  # the second batch norm; both convolutions and the first one
    return ResidualConvBlock(channels, hidden=max(1, round((scanning - fixed) / each)))


def lateral(in_channels: int, out_channels: int) -> nn.Sequential:
    """A trunk's feature in a stage's channels. (B, in, H, W) -> (B, out, H, W)."""
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels))


class DecoderStage(nn.Module):
    """Upsample, fuse with the encoder's feature, refine."""

    def __init__(self, deep_channels: int, channels: int, fusion: str) -> None:
        super().__init__()
        self.upsample = upsample(deep_channels, channels)
        self.fusion = fusion_of(fusion, channels)
        self.refine = conv_block(2 * channels, channels)

    def forward(self, deep: Tensor, encoded: Tensor) -> Tensor:
        return self.refine(self.fusion(self.upsample(deep), encoded))


class HyMUNet(Supervised, nn.Module):
    """images (B, 3, H, W) -> logits (B, 1, H, W); H and W multiples of 16.

    channels: of the four encoder stages, at H/2, H/4, H/8 and H/16. The first two stages are residual convolution
    blocks, the last two visual state space blocks, over which stochastic depth grows linearly up to `drop_path`.

    For ablation. encoder: `hybrid`; `mamba`, state space blocks in all stages; `cnn`, the control without a scan: in
    their place as many convolution blocks with as many parameters (to half a channel). fusion: see `fusion_of`.
    directions: of the scan.

    Beyond the paper. encoder: `efficientnet_lite0` or `efficientnet_lite2`, whose features at H/2 and H/4 stand for the
    first two stages and at H/8 and H/16 lie under the state space blocks of the last two, each brought to the stage's
    channels. `start_from` gives this trunk published weights. deep_supervision: training also sees the decoder's
    deeper stages, each by a head of its own, as a list of logits from H to H/8.
    """

    stride = 16

    def __init__(
        self,
        channels: Sequence[int],
        drop_path: float = 0.0,
        encoder: str = "hybrid",
        fusion: str = "decoder",
        directions: int = 4,
        deep_supervision: bool = False,
    ) -> None:
        super().__init__()
        widths = [channels[0] // 2, *channels]
        self.embedding = nn.Sequential(
            nn.Conv2d(3, widths[0], 3, padding=1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU(inplace=True)
        )
        first = FIRST_SCAN[encoder]
        scanning = BLOCKS * (len(channels) - first)
        rates = iter([drop_path * i / (scanning - 1) for i in range(scanning)])
        self.trunk = EfficientNetLite(encoder) if encoder in SCALES else None
        self.stages = nn.ModuleList()
        for index, (width_in, width) in enumerate(pairwise(widths)):
            blocks: list[nn.Module] = []
            for _ in range(BLOCKS):
                if index >= first:
                    blocks.append(VisualStateSpaceBlock(width, drop_path=next(rates), directions=directions))
                elif index >= HYBRID:
                    blocks.append(convolutions_of_equal_size(width, directions))
                elif self.trunk is None:
                    blocks.append(ResidualConvBlock(width))
            opening = downsample(width_in, width) if self.trunk is None else lateral(self.trunk.channels[index], width)
            self.stages.append(nn.Sequential(opening, *blocks))
        self.decoder = nn.ModuleList(
            DecoderStage(deep, width, fusion) for deep, width in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.head = nn.Conv2d(widths[0], 1, 1)
        self.levels = len(self.decoder) if deep_supervision else 1
        self.auxiliary = nn.ModuleList(nn.Conv2d(width, 1, 1) for width in widths[1 : self.levels])

    def forward(self, images: Tensor) -> Tensor | list[Tensor]:
        require_multiple(images, self.stride)
        features = [self.embedding(images)]
        if self.trunk is None:
            for stage in self.stages:
                features.append(stage(features[-1]))
        else:
            features += [stage(feature) for stage, feature in zip(self.stages, self.trunk(images), strict=True)]
        decoded = [features.pop()]
        for stage in self.decoder:
            decoded.append(stage(decoded[-1], features.pop()))
        logits = self.head(decoded.pop())
        if not (self.training and self.auxiliary):
            return logits
        return [logits, *(head(decoded.pop()) for head in self.auxiliary)]

    def start_from(self, source: str, sha256: str | None) -> None:
        """Gives the trunk published weights; see `pretrained.read`. ValueError, naming the source, for others."""
        assert self.trunk is not None
        weights = pretrained.read(self.trunk.kind, source, sha256)
        try:
            self.trunk.load_published(weights)
        except ValueError as error:
            raise ValueError(
                f"model.pretrained: {source}: {error}; name a file of {self.trunk.kind}'s weights in the published form"
            ) from None
