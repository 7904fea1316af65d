"""HyM-UNet's parameters and sizes; the network is in hymunet/models/hymunet.py."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from hymunet.models.spec import IMAGENET, ModelSection, Sha256, Spec, widths
from hymunet.section import Rate

FourWidths = Annotated[list[Annotated[int, Field(ge=2)]], Field(min_length=4, max_length=4)]  # the first is halved
TRUNKS = ("efficientnet_lite0", "efficientnet_lite2")


class HyMUNetSection(ModelSection):
    """encoder, fusion, directions: for ablation, and a trunk that the paper does not have; the defaults are its model.

    deep_supervision: the decoder's deeper stages are trained on the masks, too; nothing changes at inference.
    pretrained: what the trunk starts from, `imagenet` (the extra `pretrained`) or a file of which the hash is given.
    """

    name: Literal["hymunet"]
    size: Literal["small", "base", "large"] | FourWidths = "small"
    drop_path: Rate = 0.1
    encoder: Literal["hybrid", "cnn", "mamba", "efficientnet_lite0", "efficientnet_lite2"] = "hybrid"
    fusion: Literal["decoder", "both", "none"] = "decoder"
    directions: Literal[4, 2, 1] = 4
    deep_supervision: bool = False
    pretrained: str | None = None
    pretrained_sha256: Sha256 | None = None

    @model_validator(mode="after")
    def _weights_have_a_place(self) -> Self:
        if self.pretrained is not None and self.encoder not in TRUNKS:
            raise ValueError(
                f"pretrained = {self.pretrained}: encoder {self.encoder} takes none; {' and '.join(TRUNKS)} do"
            )
        named = self.pretrained not in (None, IMAGENET)
        if named and self.pretrained_sha256 is None:
            raise ValueError(
                f"pretrained = {self.pretrained}: pretrained_sha256 is missing, which says which weights these are; "
                f"sha256sum {self.pretrained} prints it"
            )
        if not named and self.pretrained_sha256 is not None:
            raise ValueError(f"pretrained_sha256 is for a file that `pretrained` names, which is {self.pretrained}")
        return self


def build(section: HyMUNetSection, image_size: int) -> Any:
    from hymunet.models.hymunet import HyMUNet

    channels = widths(section.size)
    return HyMUNet(
        channels, section.drop_path, section.encoder, section.fusion, section.directions, section.deep_supervision
    )


def start(section: HyMUNetSection, model: Any) -> None:
    if section.pretrained is not None:
        model.start_from(section.pretrained, section.pretrained_sha256)


SPEC = Spec(
    section=HyMUNetSection,
    build=build,
    start=start,
    stride=lambda section: 16,
    tiny={"size": [8, 16, 16, 32]},
)
