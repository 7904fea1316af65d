"""HyM-UNet's parameters and sizes; the network is in hymunet/models/hymunet.py."""

from typing import Any, Literal

from hymunet.models.spec import FourWidths, ModelSection, Spec, widths
from hymunet.section import Rate

SIZES = {"small": (32, 64, 128, 256), "base": (48, 96, 192, 384), "large": (64, 128, 256, 512)}


class HyMUNetSection(ModelSection):
    name: Literal["hymunet"]
    size: Literal["small", "base", "large"] | FourWidths = "small"
    drop_path: Rate = 0.1


def build(section: HyMUNetSection, image_size: int) -> Any:
    from hymunet.models.hymunet import HyMUNet

    return HyMUNet(widths(section.size, SIZES), section.drop_path)


SPEC = Spec(section=HyMUNetSection, build=build, stride=lambda section: 16, tiny={"size": [4, 8, 8, 16]})
