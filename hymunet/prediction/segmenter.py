"""A trained model in torch, as `predict` asks for it."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from hymunet import images
from hymunet.evaluation import familiar
from hymunet.inference import DECIDES, Segmenter


class TorchModel:
    """Sees images at its own size; its probabilities are interpolated back, as `Segmenter.masks` does."""

    def __init__(self, segmenter: Segmenter, decides: str) -> None:
        self.segmenter, self.decides = segmenter, decides
        self.threshold, self.flips = segmenter.threshold, segmenter.flips
        self.largest_region = segmenter.largest_region
        self.trained_on = segmenter.info.get(familiar.KEY)
        self.facts = {
            "weights_sha256": segmenter.info["weights_sha256"],
            "precision": segmenter.precision,
            **{name: getattr(segmenter, name) for name in DECIDES},
        }

    def prepare(self, image: np.ndarray) -> np.ndarray:
        images.check(image)
        return images.resize(image, self.segmenter.image_size)

    def compute(self, prepared: Sequence[np.ndarray]) -> list[np.ndarray]:
        return list(self.segmenter.probabilities(np.stack(prepared)))

    def finish(self, computed: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        return cv2.resize(computed, shape[::-1], interpolation=cv2.INTER_LINEAR)
