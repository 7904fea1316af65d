"""Segmentation metrics per image: Dice, IoU, precision and the 95 % Hausdorff distance.

A set's headline is the mean over its images; `pooled` counts all its pixels as one image and stands beside it.

Empty masks. Nothing to find and nothing found is a perfect score. Where only one of prediction and truth is empty, the
overlaps are 0 and the distance is the image's diagonal, the longest there is: a missed lesion costs as much as an error
can cost, and never drops out of a mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

SCORES = ("dice", "iou", "precision", "hd95", "hd95_fraction")
COUNTS = ("true_positive", "false_positive", "false_negative")
_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))


def image_scores(prediction: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Scores of one image and the pixel counts behind them; prediction and truth (H, W), non-zero is lesion.

    Dice, IoU and precision in [0, 1], `hd95` in pixels of the grid, `hd95_fraction` of its diagonal.
    """
    if prediction.shape != truth.shape or prediction.ndim != 2:
        raise ValueError(f"prediction {prediction.shape} and truth {truth.shape} must be masks (H, W) of one size")
    prediction, truth = prediction != 0, truth != 0
    overlap = int(np.count_nonzero(prediction & truth))
    counts = dict(zip(COUNTS, (overlap, int(prediction.sum()) - overlap, int(truth.sum()) - overlap), strict=True))
    distance = hausdorff95(prediction, truth)
    return {
        **overlap_scores(**counts),
        "hd95": distance,
        "hd95_fraction": distance / float(np.hypot(*truth.shape)),
        **counts,
    }


def overlap_scores(true_positive: int, false_positive: int, false_negative: int) -> dict[str, float]:
    """Dice 2TP/(2TP+FP+FN), IoU TP/(TP+FP+FN), precision TP/(TP+FP) from pixel counts."""
    wrong = false_positive + false_negative
    if true_positive + wrong == 0:
        return {"dice": 1.0, "iou": 1.0, "precision": 1.0}
    found = true_positive + false_positive
    return {
        "dice": 2 * true_positive / (2 * true_positive + wrong),
        "iou": true_positive / (true_positive + wrong),
        "precision": true_positive / found if found else 0.0,
    }


def pooled_scores(rows: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Overlap scores of all images' pixels together, from rows of `image_scores`, at least one."""
    counts = np.array([[row[name] for name in COUNTS] for row in rows], dtype=np.int64)
    if not len(counts):
        raise ValueError("no image to score")
    return overlap_scores(*(int(total) for total in counts.sum(0)))


def hausdorff95(prediction: np.ndarray, truth: np.ndarray) -> float:
    """The larger of the two directed 95th percentiles of distances between the masks' contours, in pixels.

    This is MONAI's definition. A contour is the mask's pixels with a 4-neighbour outside the mask or the image; the
    percentile interpolates linearly. prediction, truth: (H, W) bool. For empty masks see the module's rule.
    """
    if not prediction.any() or not truth.any():
        return 0.0 if prediction.any() == truth.any() else float(np.hypot(*truth.shape))
    window = _bounding_box(prediction | truth)
    contours = [np.argwhere(_contour(mask[window])) for mask in (prediction, truth)]
    directed = (_distances(a, b) for a, b in (contours, contours[::-1]))
    return max(float(np.percentile(distances, 95)) for distances in directed)


def dice_from_counts(overlap: Tensor, predicted: Tensor, truth: Tensor) -> Tensor:
    """Per-image Dice from the pixel counts |P∩T|, |P|, |T|, each (B,) -> (B,) float32; 1 where both are empty."""
    total = (predicted + truth).float()
    return (2 * overlap.float() / total.clamp(min=1)).masked_fill(total == 0, 1.0)


def _bounding_box(mask: np.ndarray) -> tuple[slice, slice]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _contour(mask: np.ndarray) -> np.ndarray:
    inside = cv2.erode(mask.view(np.uint8), _CROSS, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return mask & (inside == 0)


def _distances(points: np.ndarray, contour: np.ndarray) -> np.ndarray:
    """Distance of each of the points (P, 2) to the nearest of the contour (C, 2) -> (P,) float64, exact.

    OpenCV's distance transform is as fast, but its last bit depends on where the buffer lies in memory.
    """
    from scipy.spatial import cKDTree

    return cKDTree(contour).query(points)[0]
