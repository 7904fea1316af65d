"""HyM-UNet: medical image segmentation with a hybrid CNN-Mamba U-Net. For research use; not a medical device."""

__version__ = "0.1.0"
