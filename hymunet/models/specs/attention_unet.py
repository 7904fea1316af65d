"""Attention U-Net's parameters and sizes; the network is in hymunet/models/attention_unet.py."""

from typing import Any, Literal

from hymunet.models.spec import ModelSection, Published, Size, Spec, halvings, widths


class AttentionUNetSection(ModelSection):
    name: Literal["attention_unet"]
    size: Size = "small"


def build(section: AttentionUNetSection, image_size: int) -> Any:
    from hymunet.models.attention_unet import AttentionUNet

    return AttentionUNet(widths(section.size))


SPEC = Spec(
    section=AttentionUNetSection,
    build=build,
    stride=halvings,
    tiny={"size": [4, 8, 16]},
    published=(Published({"size": "published"}, parameters=34_878_573, gmacs=66.43),),
)
