"""U-Net + NAM, of which the paper's text speaks where its table says Mamba: after every encoder block, our reading."""

from collections.abc import Sequence

from hymunet.models.layers.attention import NormalizationAttention
from hymunet.models.layers.u_shape import UShape


class UNetNAM(UShape):
    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__(channels, [NormalizationAttention(width) for width in channels])
