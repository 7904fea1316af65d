"""The U-Net's parameters and sizes; the network is in hymunet/models/unet.py."""

from typing import Any, Literal

from hymunet.models.spec import ModelSection, Published, Size, Spec, halvings, widths


class UNetSection(ModelSection):
    name: Literal["unet"]
    size: Size = "small"


def build(section: UNetSection, image_size: int) -> Any:
    from hymunet.models.unet import UNet

    return UNet(widths(section.size))


SPEC = Spec(
    section=UNetSection,
    build=build,
    stride=halvings,
    tiny={"size": [4, 8, 16]},
    published=(
        Published({"size": "published"}, parameters=31_037_633, gmacs=48.17),
        # 7,765,985 where convolutions keep the biases that batch norm takes away again.
        Published({"size": [32, 64, 128, 256, 512]}, parameters=7_763_041, gmacs=12.07),
    ),
)
