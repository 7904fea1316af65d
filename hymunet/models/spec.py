"""What the rest of the code knows of a model: its section of params.yaml, how it is built, which images it takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from hymunet.section import Count, Section

if TYPE_CHECKING:
    from torch import nn

Widths = Annotated[list[Count], Field(min_length=2, max_length=6)]  # channels of the levels, the first the finest
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
IMAGENET = "imagenet"  # a trunk's published weights

SIZES = {
    "small": (32, 64, 128, 256),
    "base": (48, 96, 192, 384),
    "large": (64, 128, 256, 512),
    "published": (64, 128, 256, 512, 1024),  # the first U-Net's
}
Size = Literal["small", "base", "large", "published"] | Widths  # of U-shaped models


class ModelSection(Section):
    """The section `model`. Each model's own gives `name` its value and adds the fields that the model uses."""

    name: str


@dataclass(frozen=True)
class Published:
    """A form of the model whose size is known from its publication.

    section: fields of the section. gmacs: multiply-accumulates of convolutions and matrix products for one image, 1e9.
    """

    section: Mapping[str, Any]
    parameters: int
    gmacs: float
    image_size: int = 256


@dataclass(frozen=True)
class Spec:
    """A model's declaration. It is read by programs that never compute, so the module it is in imports no torch.

    section: the pydantic class of its parameters, every field but `name` with a default.
    build: (section, image size) -> the network with fresh weights from torch's global generator; imports what it needs.
    stride: section -> what both sides of an image must be a multiple of.
    tiny: fields of the smallest form that still has every part, for tests.
    start: (section, fresh network) -> gives it the weights that a training starts from, where the section names some.
    """

    section: type[ModelSection]
    build: Callable[[Any, int], nn.Module]
    stride: Callable[[Any], int]
    tiny: Mapping[str, Any]
    published: Sequence[Published] = ()
    start: Callable[[Any, nn.Module], None] | None = None

    def check(self, section: ModelSection, image_size: int) -> None:
        """Raises ValueError for an image size that this form of the model cannot take."""
        stride = self.stride(section)
        if image_size % stride:
            below = image_size // stride * stride
            sizes = " or ".join(str(size) for size in (below, below + stride) if size)
            raise ValueError(
                f"image_size = {image_size}: model {section.name} takes multiples of {stride}, such as {sizes}"
            )


def widths(size: str | Sequence[int], named: Mapping[str, Sequence[int]] = SIZES) -> tuple[int, ...]:
    """Channels of the levels, from a size's name or written out."""
    return tuple(named[size] if isinstance(size, str) else size)


def halvings(section: Any) -> int:
    """The stride of a U-shape: a halving between levels."""
    return 2 ** (len(widths(section.size)) - 1)
