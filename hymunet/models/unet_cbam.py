"""U-Net + CBAM: channel, then spatial attention after every encoder block. Our reading of a name."""

from collections.abc import Sequence

from hymunet.models.layers.attention import ConvolutionalBlockAttention
from hymunet.models.layers.u_shape import UShape


class UNetCBAM(UShape):
    """reduction: r of the perceptron between the channels."""

    def __init__(self, channels: Sequence[int], reduction: int = 16) -> None:
        super().__init__(channels, [ConvolutionalBlockAttention(width, reduction) for width in channels])
