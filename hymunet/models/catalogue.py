"""The models, by the name and size that params.yaml gives."""

from collections.abc import Callable

from torch import nn

from hymunet import params
from hymunet.models.hymunet import HyMUNet
from hymunet.models.unet import UNet

SIZES = {
    "small": (32, 64, 128, 256),
    "base": (48, 96, 192, 384),
    "large": (64, 128, 256, 512),
}

MODELS: dict[str, Callable[[params.Model], nn.Module]] = {
    "hymunet": lambda section: HyMUNet(SIZES[section.size], section.drop_path),
    "unet": lambda section: UNet(SIZES[section.size]),
}


def build(section: params.Model) -> nn.Module:
    """A model with fresh weights from torch's global generator: float32 images (B, 3, H, W) -> logits (B, 1, H, W)."""
    return MODELS[section.name](section)
