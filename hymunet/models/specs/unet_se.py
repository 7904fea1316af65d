"""U-Net + SE's parameters and sizes; the network is in hymunet/models/unet_se.py."""

from typing import Any, Literal

from hymunet.models.spec import ModelSection, Published, Size, Spec, halvings, widths
from hymunet.section import Count


class UNetSESection(ModelSection):
    name: Literal["unet_se"]
    size: Size = "small"
    reduction: Count = 16


def build(section: UNetSESection, image_size: int) -> Any:
    from hymunet.models.unet_se import UNetSE

    return UNetSE(widths(section.size), section.reduction)


SPEC = Spec(
    section=UNetSESection,
    build=build,
    stride=halvings,
    tiny={"size": [8, 16, 32], "reduction": 2},
    published=(Published({"size": "published"}, parameters=31_212_225, gmacs=48.17),),
)
