"""U-Net + CBAM's parameters and sizes; the network is in hymunet/models/unet_cbam.py."""

from typing import Any, Literal

from hymunet.models.spec import ModelSection, Published, Size, Spec, halvings, widths
from hymunet.section import Count


class UNetCBAMSection(ModelSection):
    name: Literal["unet_cbam"]
    size: Size = "small"
    reduction: Count = 16


def build(section: UNetCBAMSection, image_size: int) -> Any:
    from hymunet.models.unet_cbam import UNetCBAM

    return UNetCBAM(widths(section.size), section.reduction)


SPEC = Spec(
    section=UNetCBAMSection,
    build=build,
    stride=halvings,
    tiny={"size": [8, 16, 32], "reduction": 2},
    published=(Published({"size": "published"}, parameters=31_212_715, gmacs=48.18),),
)
