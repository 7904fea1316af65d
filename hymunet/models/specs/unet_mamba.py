"""U-Net + Mamba's parameters and sizes; the network is in hymunet/models/unet_mamba.py."""

from typing import Any, Literal

from hymunet.models.spec import ModelSection, Published, Size, Spec, halvings, widths
from hymunet.section import Count, Rate


class UNetMambaSection(ModelSection):
    name: Literal["unet_mamba"]
    size: Size = "small"
    blocks: Count = 2
    drop_path: Rate = 0.0


def build(section: UNetMambaSection, image_size: int) -> Any:
    from hymunet.models.unet_mamba import UNetMamba

    return UNetMamba(widths(section.size), section.blocks, section.drop_path)


SPEC = Spec(
    section=UNetMambaSection,
    build=build,
    stride=halvings,
    tiny={"size": [4, 8, 16], "blocks": 1, "drop_path": 0.1},
    published=(Published({"size": "published"}, parameters=46_590_145, gmacs=52.0),),
)
