"""U-Net (Ronneberger et al. 2015) with batch norm and same-size convolutions, the baseline of both tables."""

from hymunet.models.layers.u_shape import UShape


class UNet(UShape):
    """The plain shape."""
