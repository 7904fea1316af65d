"""VM-UNet's parameters and sizes; the network is in hymunet/models/vm_unet.py."""

from typing import Any, Literal

from hymunet.models.spec import ModelSection, Published, Spec
from hymunet.section import Rate

WIDTHS = {"small": 24, "base": 48, "published": 96}  # channels at a quarter of the image


class VMUNetSection(ModelSection):
    name: Literal["vm_unet"]
    size: Literal["small", "base", "published"] = "small"
    drop_path: Rate = 0.2


def build(section: VMUNetSection, image_size: int) -> Any:
    from hymunet.models.vm_unet import VMUNet

    return VMUNet(WIDTHS[section.size], section.drop_path)


SPEC = Spec(
    section=VMUNetSection,
    build=build,
    stride=lambda section: 32,
    tiny={"size": "small"},
    # 4.09 without the scan's input projection, 5.29 with that of its step size too, which our kernel computes.
    published=(Published({"size": "published"}, parameters=27_427_561, gmacs=5.01),),
)
