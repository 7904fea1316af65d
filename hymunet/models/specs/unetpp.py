"""U-Net++'s parameters and sizes; the network is in hymunet/models/unetpp.py."""

from typing import Any, Literal

from hymunet.models.spec import ModelSection, Published, Size, Spec, halvings, widths


class UNetPlusPlusSection(ModelSection):
    name: Literal["unetpp"]
    size: Size = "small"


def build(section: UNetPlusPlusSection, image_size: int) -> Any:
    from hymunet.models.unetpp import UNetPlusPlus

    return UNetPlusPlus(widths(section.size))


SPEC = Spec(
    section=UNetPlusPlusSection,
    build=build,
    stride=halvings,
    tiny={"size": [4, 8, 16]},
    published=(
        Published({"size": [32, 64, 128, 256, 512]}, parameters=9_163_329, gmacs=34.5),
        Published({"size": "published"}, parameters=36_629_633, gmacs=137.8),
    ),
)
