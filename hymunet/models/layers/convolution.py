"""Convolutional building blocks: what U-Nets share, and the residual convolution block of HyM-UNet (equation 5)."""

from torch import Tensor, nn


def conv_block(in_channels: int, out_channels: int, bias: bool = False, hidden: int = 0) -> nn.Sequential:
    """F of equation 5: [3×3 convolution, batch norm, ReLU] twice. (B, in, H, W) -> (B, out, H, W).

    bias: of the convolutions; batch norm takes it away again, but some published sizes count it. hidden: channels
    between the two, if other than `out_channels`.
    """
    hidden = hidden or out_channels
    return nn.Sequential(
        nn.Conv2d(in_channels, hidden, 3, padding=1, bias=bias),
        nn.BatchNorm2d(hidden),
        nn.ReLU(inplace=True),
        nn.Conv2d(hidden, out_channels, 3, padding=1, bias=bias),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


def downsample(in_channels: int, out_channels: int) -> nn.Sequential:
    """Merges 2×2 patches, halving the resolution. (B, in, H, W) -> (B, out, H/2, W/2)."""
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 2, stride=2, bias=False), nn.BatchNorm2d(out_channels))


def upsample(in_channels: int, out_channels: int) -> nn.ConvTranspose2d:
    """Doubles the resolution; transposed, since bilinear upsampling has no deterministic backward on CUDA."""
    return nn.ConvTranspose2d(in_channels, out_channels, 2, stride=2)


class ResidualConvBlock(nn.Module):
    """RCB, equation 5: x + F(x). (B, C, H, W) -> (B, C, H, W)."""

    def __init__(self, channels: int, hidden: int = 0) -> None:
        super().__init__()
        self.body = conv_block(channels, channels, hidden=hidden)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def require_multiple(images: Tensor, stride: int) -> None:
    """Raises ValueError for images (B, 3, H, W) whose sides the deepest level cannot divide."""
    height, width = images.shape[-2:]
    if height % stride or width % stride:
        raise ValueError(f"image size {height}×{width}: both sides must be multiples of {stride}")
