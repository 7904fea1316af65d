"""U-Net + NAM's parameters and sizes; the network is in hymunet/models/unet_nam.py."""

from typing import Any, Literal

from hymunet.models.spec import ModelSection, Published, Size, Spec, halvings, widths


class UNetNAMSection(ModelSection):
    name: Literal["unet_nam"]
    size: Size = "small"


def build(section: UNetNAMSection, image_size: int) -> Any:
    from hymunet.models.unet_nam import UNetNAM

    return UNetNAM(widths(section.size))


SPEC = Spec(
    section=UNetNAMSection,
    build=build,
    stride=halvings,
    tiny={"size": [4, 8, 16]},
    published=(Published({"size": "published"}, parameters=31_041_601, gmacs=48.17),),
)
