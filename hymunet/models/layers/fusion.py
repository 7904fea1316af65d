"""The Mamba-guided fusion skip connection (equations 7-9)."""

import torch
from torch import Tensor, nn


class MambaGuidedFusion(nn.Module):
    """MGF-Skip: the decoder's upsampled feature says where the encoder's feature is to be heard.

    G = sigmoid(Conv1×1(D_up)), one channel (eq. 7); E' = G ⊙ E (eq. 8); [E + E', D_up] (eq. 9).
    decoded (B, C_d, H, W), encoded (B, C_e, H, W) -> (B, C_e + C_d, H, W).
    """

    def __init__(self, decoder_channels: int) -> None:
        super().__init__()
        self.attention = nn.Conv2d(decoder_channels, 1, 1)

    def forward(self, decoded: Tensor, encoded: Tensor) -> Tensor:
        gate = torch.sigmoid(self.attention(decoded))
        return torch.cat([encoded + gate * encoded, decoded], dim=1)


class FusionFromBoth(nn.Module):
    """For ablation: MGF-Skip whose gate hears the encoder's feature, too. channels: of both features together."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.attention = nn.Conv2d(channels, 1, 1)

    def forward(self, decoded: Tensor, encoded: Tensor) -> Tensor:
        gate = torch.sigmoid(self.attention(torch.cat([encoded, decoded], dim=1)))
        return torch.cat([encoded + gate * encoded, decoded], dim=1)


class Concatenation(nn.Module):
    """For ablation: the plain skip of a U-Net."""

    def forward(self, decoded: Tensor, encoded: Tensor) -> Tensor:
        return torch.cat([encoded, decoded], dim=1)
