"""The U-Net's parameters and sizes; the network is in hymunet/models/unet.py."""

from typing import Any, Literal

from hymunet.models.spec import ModelSection, Published, Spec, Widths, widths

SIZES = {
    "small": (32, 64, 128, 256),
    "base": (48, 96, 192, 384),
    "large": (64, 128, 256, 512),
    "published": (64, 128, 256, 512, 1024),
}


class UNetSection(ModelSection):
    name: Literal["unet"]
    size: Literal["small", "base", "large", "published"] | Widths = "small"


def build(section: UNetSection, image_size: int) -> Any:
    from hymunet.models.unet import UNet

    return UNet(widths(section.size, SIZES))


SPEC = Spec(
    section=UNetSection,
    build=build,
    stride=lambda section: 2 ** (len(widths(section.size, SIZES)) - 1),
    tiny={"size": [4, 8, 16]},
    published=(
        Published({"size": "published"}, parameters=31_037_633, gmacs=48.17),
        Published({"size": [32, 64, 128, 256, 512]}, parameters=7_765_985, gmacs=12.07),
    ),
)
