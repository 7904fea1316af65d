"""HyM-UNet's parameters and sizes; the network is in hymunet/models/hymunet.py."""

from typing import Any, Literal

from hymunet.models.spec import FourWidths, ModelSection, Spec, widths
from hymunet.section import Rate


class HyMUNetSection(ModelSection):
    """encoder, fusion, directions: for ablation; the defaults are the paper's model."""

    name: Literal["hymunet"]
    size: Literal["small", "base", "large"] | FourWidths = "small"
    drop_path: Rate = 0.1
    encoder: Literal["hybrid", "cnn", "mamba"] = "hybrid"
    fusion: Literal["decoder", "both", "none"] = "decoder"
    directions: Literal[4, 2, 1] = 4


def build(section: HyMUNetSection, image_size: int) -> Any:
    from hymunet.models.hymunet import HyMUNet

    channels = widths(section.size)
    return HyMUNet(channels, section.drop_path, section.encoder, section.fusion, section.directions)


SPEC = Spec(section=HyMUNetSection, build=build, stride=lambda section: 16, tiny={"size": [8, 16, 16, 32]})
