"""How far a file in another format does what the model does, image by image."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hymunet.prediction.ensemble import Ensemble, mask_dice
from hymunet.prediction.onnx_file import OnnxModel
from hymunet.prediction.segmenter import TorchModel

TOLERANCE = 1e-3  # of a probability: closer to the threshold a pixel may fall on either side
DICE = 1e-4


@dataclass(frozen=True)
class Agreement:
    """Over `images`: the largest difference of a probability and of a confidence, how many pixels of masks differ and
    how many of them away from the threshold, and the mean Dice of each mask with the model's own."""

    images: int
    probability: float
    confidence: float
    differing: int
    wrong: int
    dice: float

    def require(self, what: str, strict: bool) -> None:
        """Raises ValueError unless masks are equal but for pixels at the threshold, and strictly their Dice is 1."""
        if self.images == 0:
            raise ValueError(f"{what}: there is no image to compare on; nothing was written")
        if self.wrong or not self.confidence <= 10 * TOLERANCE or (strict and not self.dice >= 1 - DICE):
            raise ValueError(
                f"{what}: ONNX Runtime differs from the model by {self.probability:.2g} of a probability, in "
                f"{self.wrong} pixels away from the threshold, Dice {self.dice:.5f}; nothing was written"
            )


def compare(model: TorchModel, file: Path, images: Iterable[np.ndarray]) -> Agreement:
    """images: uint8 RGB (H, W, 3) of any sizes, one in memory at a time. Masks hold every region, as the file's do."""
    ours, theirs = Ensemble([model]), OnnxModel(file)
    count, probability, confidence, differing, wrong, dice = 0, 0.0, 0.0, 0, 0, 0.0
    for image in images:
        shape = image.shape[:2]
        expected = replace(ours.found(ours.compute([ours.prepare(image)])[0], shape), largest_region=False)
        mask, found, sure = theirs.run(image)
        apart = mask != expected.mask
        away = np.abs(expected.probability - np.float32(expected.threshold)) > TOLERANCE
        count += 1
        probability = max(probability, float(np.abs(found - expected.probability).max()))
        confidence = max(confidence, abs(sure - expected.confidence) if not apart.any() else 0.0)
        differing += int(apart.sum())
        wrong += int((apart & away).sum())
        dice += mask_dice(mask, expected.mask)
    return Agreement(count, probability, confidence, differing, wrong, dice / max(1, count))
