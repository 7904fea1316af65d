"""Swin-Unet (Cao et al. 2022): a U-shape of windowed transformers without a convolution but the first and the last."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hymunet.models.layers.convolution import require_multiple
from hymunet.models.layers.patches import PatchEmbedding, PatchExpanding, PatchMerging, start_small
from hymunet.models.layers.transformer import SwinBlock

BLOCKS = 2  # a stage, the second with shifted windows
PATCH = 4


def stage(channels: int, size: int, window: int, heads: int, rates: Sequence[float]) -> nn.Sequential:
    """Windows have at most `window` pixels a side, and the largest side that divides the map."""
    side = next(side for side in range(min(window, size), 0, -1) if size % side == 0)
    shift = side // 2 if side < size else 0
    return nn.Sequential(
        *(SwinBlock(channels, size, side, heads, shift if index % 2 else 0, rate) for index, rate in enumerate(rates))
    )


class SwinUNet(nn.Module):
    """images (B, 3, S, S) -> logits (B, 1, S, S), S the image size it was built for, a multiple of 32.

    channels: of the first stage, at S/4; it doubles at S/8, S/16 and S/32. heads: of the four stages. Skips are what
    enters a stage, as published.
    """

    def __init__(self, image_size: int, channels: int, heads: Sequence[int], window: int, drop_path: float) -> None:
        super().__init__()
        self.image_size = image_size
        stages = len(heads)
        widths = [channels * 2**index for index in range(stages)]
        sizes = [image_size // PATCH // 2**index for index in range(stages)]
        last = BLOCKS * stages - 1
        rates = [[drop_path * (BLOCKS * index + block) / last for block in range(BLOCKS)] for index in range(stages)]
        settings = list(zip(widths, sizes, [window] * stages, heads, rates, strict=True))
        self.embedding = PatchEmbedding(channels, PATCH)
        self.encoder = nn.ModuleList(stage(*setting) for setting in settings)
        self.merging = nn.ModuleList(PatchMerging(width) for width in widths[:-1])
        self.encoder_norm = nn.LayerNorm(widths[-1])
        self.expanding = nn.ModuleList(PatchExpanding(2 * width, width, 2) for width in widths[-2::-1])
        self.joining = nn.ModuleList(nn.Linear(2 * width, width) for width in widths[-2::-1])
        self.decoder = nn.ModuleList(stage(*setting) for setting in settings[-2::-1])
        self.decoder_norm = nn.LayerNorm(channels)
        self.last = PatchExpanding(channels, channels, PATCH)
        self.head = nn.Conv2d(channels, 1, 1, bias=False)
        start_small(self)

    def forward(self, images: Tensor) -> Tensor:
        require_multiple(images, 32)
        if images.shape[-2:] != (self.image_size, self.image_size):
            raise ValueError(
                f"image size {images.shape[-2]}×{images.shape[-1]}: this model was built for "
                f"{self.image_size}×{self.image_size}"
            )
        x, skips = self.embedding(images), []
        for index, blocks in enumerate(self.encoder):
            if index:
                x = self.merging[index - 1](x)
            skips.append(x)
            x = blocks(x)
        skips.pop()
        x = self.encoder_norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        for expand, join, blocks in zip(self.expanding, self.joining, self.decoder, strict=True):
            both = torch.cat([expand(x), skips.pop()], dim=1).permute(0, 2, 3, 1)
            x = blocks(join(both).permute(0, 3, 1, 2))
        return self.head(self.last(self.decoder_norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)))
