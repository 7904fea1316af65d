"""Convolutional building blocks: what U-Nets share, and the residual convolution block of HyM-UNet (equation 5)."""

from torch import Tensor, nn


def conv_block(in_channels: int, out_channels: int) -> nn.Sequential:
    """F of equation 5: [3×3 convolution, batch norm, ReLU] twice. (B, in, H, W) -> (B, out, H, W)."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
        nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
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

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = conv_block(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)
