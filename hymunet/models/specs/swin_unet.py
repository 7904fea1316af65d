"""Swin-Unet's parameters and sizes; the network is in hymunet/models/swin_unet.py."""

from typing import Any, Literal

from hymunet.models.spec import ModelSection, Published, Spec
from hymunet.section import Count, Rate

WIDTHS = {"small": 24, "base": 48, "published": 96}  # channels at a quarter of the image
HEAD = {"small": 8, "base": 16, "published": 32}  # channels of an attention head


class SwinUNetSection(ModelSection):
    """window: pixels a side over which attention reaches, at each stage's own resolution."""

    name: Literal["swin_unet"]
    size: Literal["small", "base", "published"] = "small"
    window: Count = 8
    drop_path: Rate = 0.1


def build(section: SwinUNetSection, image_size: int) -> Any:
    from hymunet.models.swin_unet import SwinUNet

    width = WIDTHS[section.size]
    heads = [width * 2**stage // HEAD[section.size] for stage in range(4)]
    return SwinUNet(image_size, width, heads, section.window, section.drop_path)


SPEC = Spec(
    section=SwinUNetSection,
    build=build,
    stride=lambda section: 32,
    tiny={"size": "small", "window": 4},
    published=(Published({"size": "published"}, parameters=27_175_524, gmacs=8.02),),
)
