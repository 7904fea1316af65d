"""The hybrid loss (equations 10 and 11): λ1·Dice + λ2·BCE + λ3·boundary-weighted BCE."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class HybridLoss(nn.Module):
    """logits and masks (B, 1, H, W), masks 0 or 1 -> scalar, in float32 whatever the autocast.

    weights: λ1, λ2, λ3. smoothing: added to numerator and denominator of Dice. boundary_radius: of the band around the
    contour, in pixels of a 256-pixel image; it scales with the image, down to one pixel.
    """

    def __init__(self, weights: Sequence[float], smoothing: float, boundary_radius: int) -> None:
        super().__init__()
        self.weights, self.smoothing, self.boundary_radius = tuple(weights), smoothing, boundary_radius

    def forward(self, logits: Tensor, masks: Tensor) -> Tensor:
        logits, masks = logits.float(), masks.float()
        cross_entropy = functional.binary_cross_entropy_with_logits(logits, masks, reduction="none")
        radius = max(1, round(self.boundary_radius * logits.shape[-1] / 256))
        dice, bce, boundary = self.weights
        return (
            dice * dice_loss(logits, masks, self.smoothing)
            + bce * cross_entropy.mean()
            + boundary * boundary_loss(cross_entropy, masks, radius)
        )


def dice_loss(logits: Tensor, masks: Tensor, smoothing: float) -> Tensor:
    """Equation 11: 1 - (2 Σ p·g + s) / (Σ p + Σ g + s), per image, then the mean over the batch."""
    probabilities = torch.sigmoid(logits).flatten(1)
    truth = masks.flatten(1)
    overlap = (probabilities * truth).sum(1)
    return (1 - (2 * overlap + smoothing) / (probabilities.sum(1) + truth.sum(1) + smoothing)).mean()


def boundary_loss(cross_entropy: Tensor, masks: Tensor, radius: int) -> Tensor:
    """Mean cross-entropy over the band dilate(mask) - erode(mask) of the batch; 0 where no mask has a contour."""
    band = boundary_band(masks, radius)
    return (cross_entropy * band).sum() / band.sum().clamp(min=1)


def boundary_band(masks: Tensor, radius: int) -> Tensor:
    """Pixels within `radius` (chessboard distance) of the contour, as 0/1 floats. The image's frame is no contour."""
    window = 2 * radius + 1
    dilated = functional.max_pool2d(masks, window, stride=1, padding=radius)
    eroded = -functional.max_pool2d(-masks, window, stride=1, padding=radius)
    return dilated - eroded
