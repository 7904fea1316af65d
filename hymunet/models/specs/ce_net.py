"""CE-Net's parameters and sizes; the network is in hymunet/models/ce_net.py."""

from typing import Annotated, Any, Literal

from pydantic import Field

from hymunet.models.spec import ModelSection, Published, Spec, widths

SIZES = {"small": (16, 32, 64, 128), "base": (32, 64, 128, 256), "published": (64, 128, 256, 512)}

FourWidths = Annotated[list[Annotated[int, Field(ge=4)]], Field(min_length=4, max_length=4)]  # the decoder's quarter


class CENetSection(ModelSection):
    name: Literal["ce_net"]
    size: Literal["small", "base", "published"] | FourWidths = "small"


def build(section: CENetSection, image_size: int) -> Any:
    from hymunet.models.ce_net import CENet

    return CENet(widths(section.size, SIZES))


SPEC = Spec(
    section=CENetSection,
    build=build,
    stride=lambda section: 32,
    tiny={"size": [16, 16, 32, 32]},
    # 7.15 GMACs where what the cascades of atrous convolutions share is computed for each of them.
    published=(Published({"size": "published"}, parameters=29_003_093, gmacs=6.70),),
)
