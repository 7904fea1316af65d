"""TransUNet's parameters and sizes; the network is in hymunet/models/trans_unet.py."""

from dataclasses import dataclass
from typing import Any, Literal

from hymunet.models.spec import ModelSection, Published, Spec


@dataclass(frozen=True)
class Widths:
    """trunk: channels of the convolutional stem; hidden: of the perceptrons; decoder: from the transformer on."""

    trunk: int
    tokens: int
    layers: int
    heads: int
    hidden: int
    decoder: tuple[int, ...]


SIZES = {
    "small": Widths(16, 128, 4, 4, 512, (128, 64, 32, 16, 16)),
    "base": Widths(32, 384, 8, 6, 1536, (256, 128, 64, 32, 16)),
    "published": Widths(64, 768, 12, 12, 3072, (512, 256, 128, 64, 16)),  # R50-ViT-B/16
}


class TransUNetSection(ModelSection):
    name: Literal["trans_unet"]
    size: Literal["small", "base", "published"] = "small"


def build(section: TransUNetSection, image_size: int) -> Any:
    from hymunet.models.trans_unet import TransUNet

    size = SIZES[section.size]
    return TransUNet(image_size, size.trunk, size.tokens, size.layers, size.heads, size.hidden, size.decoder)


SPEC = Spec(
    section=TransUNetSection,
    build=build,
    stride=lambda section: 16,
    tiny={"size": "small"},
    published=(Published({"size": "published"}, parameters=105_322_001, gmacs=38.38),),
)
