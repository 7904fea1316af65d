"""The hybrid loss (equations 10 and 11): λ1·Dice + λ2·BCE + λ3·boundary-weighted BCE."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class HybridLoss(nn.Module):
    """logits and masks (B, 1, H, W), masks 0 or 1 -> scalar, in float32 whatever the autocast.

    weights: λ1, λ2, λ3. smoothing: added to numerator and denominator of Dice. boundary_radius: of the band around the
    contour, in pixels of a 256-pixel image; it scales with the image, down to one pixel. levels: of a model under deep
    supervision (Lee et al., AISTATS 2015), whose logits are then a list, each half as large as the one before: the
    losses of its levels count half as much each, to 1 in all.
    """

    def __init__(self, weights: Sequence[float], smoothing: float, boundary_radius: int, levels: int = 1) -> None:
        super().__init__()
        self.weights, self.smoothing, self.boundary_radius = tuple(weights), smoothing, boundary_radius
        halves = [0.5**level for level in range(levels)]
        self.shares = [half / sum(halves) for half in halves]

    def forward(
        self, logits: Tensor | Sequence[Tensor], masks: Tensor, band_pixels: Sequence[Tensor] | None = None
    ) -> Tensor:
        """band_pixels: where a batch comes in equal parts, for each level the mean over the parts of their pixels in
        the band (of one pixel, where there is none), so that the mean of the parts' losses is the loss of the batch;
        None: the batch is whole."""
        levels = [logits] if isinstance(logits, Tensor) else logits
        loss = torch.zeros((), device=masks.device)
        for level, (share, output, truth) in enumerate(zip(self.shares, levels, self.pyramid(masks), strict=True)):
            pixels = None if band_pixels is None else band_pixels[level]
            loss = loss + share * self._of_level(output.float(), truth, pixels)
        return loss

    def _of_level(self, logits: Tensor, masks: Tensor, band_pixels: Tensor | None) -> Tensor:
        cross_entropy = functional.binary_cross_entropy_with_logits(logits, masks, reduction="none")
        dice, bce, boundary = self.weights
        return (
            dice * dice_loss(logits, masks, self.smoothing)
            + bce * cross_entropy.mean()
            + boundary * boundary_loss(cross_entropy, masks, self.radius(masks), band_pixels)
        )

    def pyramid(self, masks: Tensor) -> list[Tensor]:
        """The masks as each level should see them: 1 where at least half of the pixels are."""
        masks = masks.float()
        smaller = [functional.avg_pool2d(masks, 2**level).ge(0.5).float() for level in range(1, len(self.shares))]
        return [masks, *smaller]

    def band_pixels(self, masks: Tensor) -> Tensor:
        """Pixels in the band, for each level. (levels,)."""
        return torch.stack([boundary_band(level, self.radius(level)).sum() for level in self.pyramid(masks)])

    def radius(self, masks: Tensor) -> int:
        """The band's radius in pixels of these masks."""
        return max(1, round(self.boundary_radius * masks.shape[-1] / 256))


def dice_loss(logits: Tensor, masks: Tensor, smoothing: float) -> Tensor:
    """Equation 11: 1 - (2 Σ p·g + s) / (Σ p + Σ g + s), per image, then the mean over the batch."""
    probabilities = torch.sigmoid(logits).flatten(1)
    truth = masks.flatten(1)
    overlap = (probabilities * truth).sum(1)
    return (1 - (2 * overlap + smoothing) / (probabilities.sum(1) + truth.sum(1) + smoothing)).mean()


def boundary_loss(cross_entropy: Tensor, masks: Tensor, radius: int, band_pixels: Tensor | None = None) -> Tensor:
    """Mean cross-entropy over the band dilate(mask) - erode(mask) of the batch; 0 where no mask has a contour."""
    band = boundary_band(masks, radius)
    return (cross_entropy * band).sum() / (band.sum().clamp(min=1) if band_pixels is None else band_pixels)


def boundary_band(masks: Tensor, radius: int) -> Tensor:
    """Pixels within `radius` (chessboard distance) of the contour, as 0/1 floats. The image's frame is no contour."""
    return _greatest(masks, radius) + _greatest(-masks, radius)  # dilated - eroded


def _greatest(values: Tensor, radius: int) -> Tensor:
    """Of the square window around each pixel: down its columns, then along its rows, exact as one pooling of both and
    without the reduction that a compiler makes of so many values."""
    window = 2 * radius + 1
    columns = functional.max_pool2d(values, (window, 1), stride=1, padding=(radius, 0))
    return functional.max_pool2d(columns, (1, window), stride=1, padding=(0, radius))
