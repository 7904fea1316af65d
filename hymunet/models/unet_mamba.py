"""U-Net + Mamba: visual state space blocks at the bottleneck. The paper defines it nowhere: our reading."""

from collections.abc import Sequence

from torch import nn

from hymunet.models.layers.state_space import VisualStateSpaceBlock
from hymunet.models.layers.u_shape import UShape


class UNetMamba(UShape):
    """blocks: at the bottleneck, after its convolutions."""

    def __init__(self, channels: Sequence[int], blocks: int = 2, drop_path: float = 0.0) -> None:
        scans = [VisualStateSpaceBlock(channels[-1], drop_path=drop_path) for _ in range(blocks)]
        super().__init__(channels, [*[nn.Identity() for _ in channels[:-1]], nn.Sequential(*scans)])
