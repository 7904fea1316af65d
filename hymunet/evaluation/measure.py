"""Prediction against truth, one image: overlap, distances between the contours, objects, in one pass over the masks.

Distances. A contour is a mask's pixels with a 4-neighbour outside the mask or the image; each of its pixels has a
distance to the nearest pixel of the other contour, exact, in pixels. HD95 is the larger of the two directed 95th
percentiles, ASSD the mean of all distances of both directions, NSD the share of them within a tolerance: MONAI's
definitions. Boundary IoU is that of Cheng et al. 2021 (arXiv 2103.16562): the IoU of the masks' inner rims, as wide as
2 % of the diagonal. What empty masks score stands in `hymunet.metrics`.

Objects are 8-connected. `missed_lesions` counts those of the truth that the prediction does not touch, `wrong_objects`
those of the prediction that touch no truth. `area_error` is (|P| - |T|) / |T|; where there is no lesion, 1 for any
prediction.
"""

import cv2
import numpy as np

from hymunet.evaluation import contours
from hymunet.metrics import COUNTS, TOLERANCES_PERCENT, TOLERANCES_PX, overlap_scores

_NSD = [f"nsd_{pixels}px" for pixels in TOLERANCES_PX] + [f"nsd_{percent}pct" for percent in TOLERANCES_PERCENT]
RIM = 0.02  # of the diagonal: how wide the rim of boundary IoU is


def image_scores(prediction: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """The scores `metrics.SCORES` of one image and the pixel counts behind them.

    prediction and truth (H, W), non-zero is lesion. Raises ValueError for anything else.
    """
    if prediction.shape != truth.shape or prediction.ndim != 2 or not truth.size:
        raise ValueError(f"prediction {prediction.shape} and truth {truth.shape} must be masks (H, W) of one size")
    predicted, true = (_plain(mask) for mask in (prediction, truth))
    areas = cv2.countNonZero(predicted), cv2.countNonZero(true)
    window = _window(predicted, true) if any(areas) else (slice(0, 1), slice(0, 1))
    a, b = (np.ascontiguousarray(mask[window]) for mask in (predicted, true))
    overlap = cv2.countNonZero(a & b)
    numbers = (overlap, areas[0] - overlap, areas[1] - overlap, true.size - sum(areas) + overlap)
    counts = dict(zip(COUNTS, numbers, strict=True))
    diagonal = float(np.hypot(*true.shape))
    return {
        **overlap_scores(**counts),
        **_surface_scores(contours.distances(a, b), all(areas), any(areas), diagonal),
        "boundary_iou": _boundary_iou(a, b, diagonal) if any(areas) else 1.0,
        "missed_lesions": _untouched(b, a, overlap),
        "wrong_objects": _untouched(a, b, overlap),
        "area_error": (areas[0] - areas[1]) / areas[1] if areas[1] else float(areas[0] > 0),
        **counts,
    }


def _surface_scores(distances: contours.Distances, both: bool, any_lesion: bool, diagonal: float) -> dict[str, float]:
    if both:
        total = sum(map(len, distances))
        assd = float(np.add.reduce(np.concatenate(distances))) / total
        ordered = [np.sort(directed) for directed in distances]
        hd95 = max(_percentile95(directed) for directed in ordered)
    else:
        total, ordered = 1, [np.full(1, np.inf if any_lesion else 0.0)]
        hd95 = assd = diagonal if any_lesion else 0.0
    tolerances = [*TOLERANCES_PX, *(percent / 100 * diagonal for percent in TOLERANCES_PERCENT)]
    within = np.add.reduce([directed.searchsorted(tolerances, "right") for directed in ordered]) / total
    return {
        "hd95": hd95,
        "hd95_fraction": hd95 / diagonal,
        "assd": assd,
        **dict(zip(_NSD, map(float, within), strict=True)),
    }


def _percentile95(ordered: np.ndarray) -> float:
    """np.percentile(ordered, 95), whose checks take longer than the work."""
    place = 0.95 * (len(ordered) - 1)
    below = int(place)
    low, high = ordered[below], ordered[min(below + 1, len(ordered) - 1)]
    return float(low + (place - below) * (high - low))


def _boundary_iou(prediction: np.ndarray, truth: np.ndarray, diagonal: float) -> float:
    width = max(1, round(RIM * diagonal))
    square = np.ones((2 * width + 1, 2 * width + 1), np.uint8)  # `width` erosions by 3×3, at once
    first, second = (
        np.asarray(mask - cv2.erode(mask, square, borderType=cv2.BORDER_CONSTANT, borderValue=0), np.uint8)
        for mask in (prediction, truth)
    )
    either = cv2.countNonZero(first | second)
    return cv2.countNonZero(first & second) / either if either else 1.0


def _untouched(objects: np.ndarray, others: np.ndarray, overlap: int) -> int:
    """How many connected objects of one mask hold no pixel of the other. overlap: pixels that both hold."""
    count, labels = cv2.connectedComponents(objects, connectivity=8)
    if count <= 2 or not overlap:  # the background is counted, too
        return 0 if overlap else count - 1
    touched = np.zeros(count, bool)
    touched[labels[others.view(bool)]] = True
    return int(count - 1 - np.count_nonzero(touched[1:]))


def _plain(mask: np.ndarray) -> np.ndarray:
    """uint8 of 0 and 1, contiguous."""
    return np.ascontiguousarray(mask if mask.dtype == bool else mask != 0).view(np.uint8)


def _window(prediction: np.ndarray, truth: np.ndarray) -> tuple[slice, slice]:
    """The rows and columns that hold a lesion: nothing outside changes a contour or an object."""
    left, top, width, height = cv2.boundingRect(prediction | truth)
    return slice(top, top + height), slice(left, left + width)
