"""U-Net + SE: squeeze and excitation after every encoder block. The paper gives no more than the name: our reading."""

from collections.abc import Sequence

from hymunet.models.layers.attention import SqueezeExcitation
from hymunet.models.layers.u_shape import UShape


class UNetSE(UShape):
    """reduction: r of the perceptron between the channels; it adds 2C²/r parameters a level."""

    def __init__(self, channels: Sequence[int], reduction: int = 16) -> None:
        super().__init__(channels, [SqueezeExcitation(width, reduction) for width in channels])
