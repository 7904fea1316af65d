"""Resizing and global pooling whose gradients have one order of summation, on CUDA too.

torch's bilinear and nearest upsampling and its adaptive pooling add gradients by atomics there, and are refused under
deterministic algorithms. Here bilinear resizing is two matrix products, and nearest resizing a broadcast.
"""

import torch
from torch import Tensor, nn


class Bilinear(nn.Module):
    """Resizes as torch.nn.functional.interpolate(mode="bilinear") does. (B, C, H, W) -> (B, C, *size).

    scale: of both sides, when `forward` is given no size.
    """

    def __init__(self, scale: int = 2, align_corners: bool = False) -> None:
        super().__init__()
        self.scale, self.align_corners = scale, align_corners

    def forward(self, x: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        height, width = x.shape[-2:]
        rows, columns = size or (self.scale * height, self.scale * width)
        vertical = _interpolation(height, rows, self.align_corners, x)
        horizontal = _interpolation(width, columns, self.align_corners, x)
        wide = horizontal @ x.permute(0, 2, 3, 1)  # (B, H, columns, C): channels that are last in memory stay so
        batch, channels = x.shape[:2]
        resized = vertical @ wide.reshape(batch, height, columns * channels)
        return resized.reshape(batch, rows, columns, channels).permute(0, 3, 1, 2)


class Nearest(nn.Module):
    """Repeats each pixel `scale` times along both sides, as interpolate(mode="nearest") does."""

    def __init__(self, scale: int = 2) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        nhwc = x.permute(0, 2, 3, 1)[:, :, None, :, None]
        repeated = nhwc.expand(batch, height, self.scale, width, self.scale, channels)
        return repeated.reshape(batch, self.scale * height, self.scale * width, channels).permute(0, 3, 1, 2)


def global_average(x: Tensor) -> Tensor:
    """adaptive_avg_pool2d(x, 1). (B, C, H, W) -> (B, C, 1, 1)."""
    return x.mean((2, 3), keepdim=True)


def global_maximum(x: Tensor) -> Tensor:
    """adaptive_max_pool2d(x, 1). (B, C, H, W) -> (B, C, 1, 1)."""
    return maximum(x.flatten(2), 2)[..., None]


def maximum(x: Tensor, dim: int) -> Tensor:
    """x.max(dim, keepdim=True); of equal maxima the first has the gradient.

    torch's amax finds its maxima again in the backward pass, as what equals the result. Compiled for a GPU it compares
    float32 with what was rounded to bfloat16, finds none, and divides by their number.
    """
    position = torch.arange(x.shape[dim], device=x.device).view([-1 if axis == dim else 1 for axis in range(x.ndim)])
    return torch.where(position == x.detach().argmax(dim, keepdim=True), x, 0).sum(dim, keepdim=True)


def _interpolation(before: int, after: int, align_corners: bool, like: Tensor) -> Tensor:
    """The (after, before) matrix of linear interpolation between pixel centres, or between corners.

    Made on the device at each call: it is small, and a copy from the host would wait and could not be captured.
    """
    position = torch.arange(after, dtype=torch.float32, device=like.device)
    if align_corners:
        position = position * ((before - 1) / max(1, after - 1))
    else:
        position = (position + 0.5) * (before / after) - 0.5
    pixel = torch.arange(before, dtype=torch.float32, device=like.device)
    distance = position.clamp(0, before - 1)[:, None] - pixel
    return (1 - distance.abs()).clamp(min=0).to(like.dtype)
