"""ResUNet's parameters and sizes; the network is in hymunet/models/resunet.py."""

from typing import Any, Literal

from hymunet.models.spec import ModelSection, Published, Size, Spec, halvings, widths


class ResUNetSection(ModelSection):
    name: Literal["resunet"]
    size: Size = "small"


def build(section: ResUNetSection, image_size: int) -> Any:
    from hymunet.models.resunet import ResUNet

    return ResUNet(widths(section.size))


SPEC = Spec(
    section=ResUNetSection,
    build=build,
    stride=halvings,
    tiny={"size": [4, 8, 16]},
    published=(Published({"size": "large"}, parameters=13_043_009, gmacs=71.10),),
)
