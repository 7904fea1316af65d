"""The recipe on a whole batch, on the device: stock tensor operations that can be captured and compiled."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from hymunet import counter
from hymunet.data.feed.augment import CHANGES, HOLE, Draws, blur_radius
from hymunet.images import normalise

GREY = (0.299, 0.587, 0.114)  # of red, green, blue, as OpenCV weighs them
DRAWS = ("matrices", *CHANGES, "noise_keys")


def tensors(draws: Draws) -> dict[str, Tensor]:
    return {name: torch.from_numpy(values) for name, values in draws.items()}


def augment(
    images: Tensor, masks: Tensor, draws: dict[str, Tensor], largest_blur: float = 0.0
) -> tuple[Tensor, Tensor]:
    """uint8 images (B, S, S, 3), masks (B, S, S) and what `Recipe.draw` decided -> normalised float32 (B, 3, S, S),
    channels-last, and float32 masks (B, 1, S, S) of 0 and 1; all on one device.

    largest_blur: no sigma exceeds it, pixels; it fixes the kernel's size.
    """
    batch, size = images.shape[:2]
    grid = functional.affine_grid(draws["matrices"], [batch, 1, size, size], align_corners=True)
    moved = functional.grid_sample(normalise(images), grid, "bilinear", "reflection", align_corners=True)
    labels = functional.grid_sample(masks.unsqueeze(1).float(), grid, "nearest", "reflection", align_corners=True)
    if any(name in draws for name in CHANGES):
        moved = _change(moved * 0.5 + 0.5, draws, largest_blur) * 2 - 1
    return moved.contiguous(memory_format=torch.channels_last), labels


def _change(x: Tensor, draws: dict[str, Tensor], largest_blur: float) -> Tensor:
    """Values from 0 to 1, and kept there after every step, as bytes would be."""
    if "brightness" in draws:
        x = (x * _each(draws["brightness"])).clamp(0, 1)
    if "contrast" in draws:
        factor = _each(draws["contrast"])
        x = (x * factor + _grey(x).mean((2, 3), keepdim=True) * (1 - factor)).clamp(0, 1)
    if "saturation" in draws:
        factor = _each(draws["saturation"])
        x = (x * factor + _grey(x) * (1 - factor)).clamp(0, 1)
    if "tint" in draws:
        x = (x * draws["tint"][:, :, None, None]).clamp(0, 1)
    if "gamma" in draws:
        x = x.clamp(0, 1) ** _each(draws["gamma"])
    if "blur" in draws:
        x = _blurred(x, draws["blur"], largest_blur)
    if "noise" in draws:
        x = (x + normals(draws["noise_keys"], x.shape[-1]) * _each(draws["noise"])).clamp(0, 1)
    if "holes" in draws:
        x = torch.where(_in_a_hole(draws["holes"], x.shape[-1]), HOLE, x)
    return x


def _each(values: Tensor) -> Tensor:
    return values[:, None, None, None]


def _grey(x: Tensor) -> Tensor:
    red, green, blue = GREY
    return (x[:, 0] * red + x[:, 1] * green + x[:, 2] * blue).unsqueeze(1)


def gaussians(sigmas: Tensor, radius: int) -> Tensor:
    """float32 (B,) of pixels -> kernels (B, 2 radius + 1) with sum 1; sigma 0 is the identity."""
    places = torch.arange(-radius, radius + 1, device=sigmas.device)
    weights = torch.exp(-0.5 * (places / sigmas.clamp(min=1e-3)[:, None]) ** 2)
    return weights / weights.sum(1, keepdim=True)


def _blurred(x: Tensor, sigmas: Tensor, largest: float) -> Tensor:
    radius, size = blur_radius(largest), x.shape[-1]
    kernels = gaussians(sigmas, radius)
    padded = functional.pad(x, [radius] * 4, "reflect")
    for axis in (2, 3):
        moved = [_each(kernels[:, place]) * padded.narrow(axis, place, size) for place in range(2 * radius + 1)]
        padded = torch.stack(moved).sum(0)
    return padded


def normals(noise_keys: Tensor, size: int) -> Tensor:
    """int64 (B,) -> independent standard normal numbers, float32 (B, 3, size, size), the same on any device but for the
    rounding of logarithm and cosine: hashes of key and place (splitmix64's), by Box and Muller's transform."""
    bits = counter.spread(noise_keys, (size, size, 3))
    first = 1 - counter.uniforms(bits)  # a logarithm takes no zero
    second = (bits & (2**counter.TOP_BITS - 1)) * 2.0**-counter.TOP_BITS
    values = torch.sqrt(-2 * torch.log(first)) * torch.cos(2 * math.pi * second.float())
    return values.permute(0, 3, 1, 2)


def _in_a_hole(holes: Tensor, size: int) -> Tensor:
    """bool (B, 1, size, size): whether a pixel's centre lies in one of the image's rectangles."""
    places = (torch.arange(size, device=holes.device) + 0.5) / size
    left, top, right, bottom = holes.unbind(-1)
    columns = (places >= left[..., None]) & (places < right[..., None])
    rows = (places >= top[..., None]) & (places < bottom[..., None])
    return (rows[..., :, None] & columns[..., None, :]).any(1, keepdim=True)
