"""From probabilities to a mask, in one way, with and without torch."""

import cv2
import numpy as np


def cut(probability: np.ndarray, threshold: float, largest_region: bool = False) -> np.ndarray:
    """Probabilities (H, W) -> uint8 (H, W), 1 where they exceed the threshold; of these on request only the largest
    region.
    """
    mask = (probability > np.float32(threshold)).astype(np.uint8)
    return _largest(mask) if largest_region else mask


def _largest(mask: np.ndarray) -> np.ndarray:
    """Of its regions, which touch at a side or a corner, the one with most pixels; of equals, the one that a reader
    meets first, line by line."""
    count, labels, about, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    if count <= 2:  # the ground is one
        return mask
    areas = about[1:, cv2.CC_STAT_AREA]
    equals = 1 + np.flatnonzero(areas == areas.max())
    chosen = equals[0] if len(equals) == 1 else labels[np.isin(labels, equals)][0]
    return (labels == chosen).astype(np.uint8)
