"""Attention over channels and pixels of a feature map: (B, C, H, W) -> the same shape, reweighted."""

import torch
from torch import Tensor, nn

from hymunet.models.layers.resampling import global_average, global_maximum, maximum


class SqueezeExcitation(nn.Module):
    """SE (Hu et al. 2018): channels are weighted by a two-layer perceptron on their means."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.squeeze = nn.Conv2d(channels, hidden, 1, bias=False)
        self.excite = nn.Conv2d(hidden, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.excite(torch.relu(self.squeeze(global_average(x)))))


class ConvolutionalBlockAttention(nn.Module):
    """CBAM (Woo et al. 2018): channels weighted by a perceptron shared by their means and maxima, then pixels by a
    7×7 convolution over the mean and the maximum of the channels."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.perceptron = nn.Sequential(
            nn.Conv2d(channels, hidden, 1, bias=False), nn.ReLU(), nn.Conv2d(hidden, channels, 1, bias=False)
        )
        self.spatial = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x * torch.sigmoid(self.perceptron(global_average(x)) + self.perceptron(global_maximum(x)))
        summary = torch.cat([x.mean(1, keepdim=True), maximum(x, 1)], dim=1)
        return x * torch.sigmoid(self.spatial(summary))


class NormalizationAttention(nn.Module):
    """NAM (Liu et al. 2021), over channels: a batch norm's own scales, |γ| / Σ|γ|, say which channels vary most."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        scale = self.norm.weight.abs()
        weight = (scale / scale.sum())[:, None, None]
        return x * torch.sigmoid(weight * self.norm(x))


class AttentionGate(nn.Module):
    """The additive gate of Attention U-Net (Oktay et al. 2018): the decoder's feature says where the skip is heard.

    skip (B, skip_channels, H, W), signal (B, signal_channels, H, W) -> skip, weighted by pixel.
    """

    def __init__(self, skip_channels: int, signal_channels: int, channels: int) -> None:
        super().__init__()
        self.of_skip = nn.Sequential(nn.Conv2d(skip_channels, channels, 1), nn.BatchNorm2d(channels))
        self.of_signal = nn.Sequential(nn.Conv2d(signal_channels, channels, 1), nn.BatchNorm2d(channels))
        self.weight = nn.Sequential(nn.Conv2d(channels, 1, 1), nn.BatchNorm2d(1))

    def forward(self, skip: Tensor, signal: Tensor) -> Tensor:
        return skip * torch.sigmoid(self.weight(torch.relu(self.of_skip(skip) + self.of_signal(signal))))
