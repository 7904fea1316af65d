"""Resolution steps of transformers and state space models: linear maps between a pixel and its square of neighbours.

Maps are channels-first, (B, C, H, W), as everywhere; in channels-last memory nothing is copied but what is rearranged.
"""

from torch import Tensor, nn


class PatchEmbedding(nn.Module):
    """Cuts images into squares: (B, 3, H, W) -> (B, channels, H/patch, W/patch), normalised."""

    def __init__(self, channels: int, patch: int) -> None:
        super().__init__()
        self.projection = nn.Conv2d(3, channels, patch, patch)
        self.norm = nn.LayerNorm(channels)

    def forward(self, images: Tensor) -> Tensor:
        return self.norm(self.projection(images).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class PatchMerging(nn.Module):
    """2×2 pixels become one of twice the channels. (B, C, H, W) -> (B, 2C, H/2, W/2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * channels)
        self.reduction = nn.Linear(4 * channels, 2 * channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        squares = x.permute(0, 2, 3, 1).reshape(batch, height // 2, 2, width // 2, 2, channels)
        merged = squares.permute(0, 1, 3, 2, 4, 5).reshape(batch, height // 2, width // 2, 4 * channels)
        return self.reduction(self.norm(merged)).permute(0, 3, 1, 2)


class PatchExpanding(nn.Module):
    """A pixel becomes scale×scale. (B, in_channels, H, W) -> (B, channels, scale·H, scale·W), normalised."""

    def __init__(self, in_channels: int, channels: int, scale: int) -> None:
        super().__init__()
        self.scale, self.channels = scale, channels
        self.expansion = nn.Linear(in_channels, scale * scale * channels, bias=False)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        scale, channels = self.scale, self.channels
        squares = self.expansion(x.permute(0, 2, 3, 1)).reshape(batch, height, width, scale, scale, channels)
        expanded = squares.permute(0, 1, 3, 2, 4, 5).reshape(batch, scale * height, scale * width, channels)
        return self.norm(expanded).permute(0, 3, 1, 2)


def start_small(model: nn.Module, deviation: float = 0.02) -> None:
    """Weights of linear maps from a normal distribution, biases 0: how transformers start. (Their papers truncate it at
    100 deviations.)"""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=deviation)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
