"""VM-UNet (Ruan and Xiang 2024): a U-shape of visual state space blocks on patches of 4×4 pixels, skips added."""

from torch import Tensor, nn

from hymunet.models.layers.convolution import require_multiple
from hymunet.models.layers.patches import PatchEmbedding, PatchExpanding, PatchMerging, start_small
from hymunet.models.layers.state_space import VisualStateSpaceBlock

ENCODER, DECODER = (2, 2, 2, 2), (2, 2, 2, 1)  # blocks a stage
PATCH = 4


def stage(channels: int, rates: list[float]) -> nn.Sequential:
    return nn.Sequential(*(VisualStateSpaceBlock(channels, drop_path=rate) for rate in rates))


class VMUNet(nn.Module):
    """images (B, 3, H, W) -> logits (B, 1, H, W); H and W multiples of 32.

    channels: of the first stage, at H/4; it doubles at H/8, H/16 and H/32. Of the encoder's features the finest reaches
    the decoder only through the others, as published.
    """

    def __init__(self, channels: int, drop_path: float) -> None:
        super().__init__()
        widths = [channels * 2**index for index in range(len(ENCODER))]
        total = sum(ENCODER)
        rates = [drop_path * index / (total - 1) for index in range(total)]
        places = [sum(ENCODER[:index]) for index in range(len(ENCODER))]
        split = [rates[place : place + count] for place, count in zip(places, ENCODER, strict=True)]
        self.embedding = PatchEmbedding(channels, PATCH)
        self.encoder = nn.ModuleList(stage(width, part) for width, part in zip(widths, split, strict=True))
        self.merging = nn.ModuleList(PatchMerging(width) for width in widths[:-1])
        down = list(zip(widths[::-1], split[::-1], DECODER, strict=True))
        self.decoder = nn.ModuleList(stage(width, part[::-1][:count]) for width, part, count in down)
        self.expanding = nn.ModuleList(PatchExpanding(2 * width, width, 2) for width in widths[-2::-1])
        self.last = PatchExpanding(channels, channels // PATCH, PATCH)
        self.head = nn.Conv2d(channels // PATCH, 1, 1)
        start_small(self)

    def forward(self, images: Tensor) -> Tensor:
        require_multiple(images, 32)
        x, skips = self.embedding(images), []
        for index, blocks in enumerate(self.encoder):
            skips.append(x)
            x = blocks(x)
            if index < len(self.merging):
                x = self.merging[index](x)
        x = self.decoder[0](x)
        for expand, blocks in zip(self.expanding, list(self.decoder)[1:], strict=True):
            x = blocks(expand(x + skips.pop()))
        return self.head(self.last(x))
