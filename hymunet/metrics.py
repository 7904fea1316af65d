"""Segmentation scores per image: their names, what they mean for empty masks, and those that pixel counts give.

A set's headline is the mean over its images; `pooled` counts all its pixels as one image and stands beside it.

Empty masks. Nothing to find and nothing found is a perfect score. Where only one of prediction and truth is empty,
Dice, IoU, precision and the scores along the boundary are 0 and the distances are the image's diagonal, the longest
there is: a missed lesion costs as much as an error can cost, and never drops out of a mean. Sensitivity is 1 where the
truth has no lesion and specificity 1 where it has no background, as ISIC's scorer has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

COUNTS = ("true_positive", "false_positive", "false_negative", "true_negative")
OVERLAPS = ("dice", "iou", "precision", "sensitivity", "specificity", "accuracy", "iou_at_65")  # from pixel counts
TOLERANCES_PX = (1, 2)  # of the normalised surface distance
TOLERANCES_PERCENT = (1, 2)  # of the image's diagonal
SURFACES = (
    "hd95",  # pixels
    "hd95_fraction",  # of the image's diagonal
    "assd",  # pixels
    *(f"nsd_{tolerance}px" for tolerance in TOLERANCES_PX),
    *(f"nsd_{tolerance}pct" for tolerance in TOLERANCES_PERCENT),
    "boundary_iou",
)
OBJECTS = ("missed_lesions", "wrong_objects", "area_error")
SCORES = (*OVERLAPS, *SURFACES, *OBJECTS)
NATIVE = "native_"  # before the name of a score at the image's own size
FAILED = 0.65  # an IoU below it is a failure, by the rule of ISIC 2018


def overlap_scores(
    true_positive: int, false_positive: int, false_negative: int, true_negative: int
) -> dict[str, float]:
    """The scores OVERLAPS from pixel counts. `iou_at_65` is the IoU where that is at least 0.65, else 0."""
    wrong = false_positive + false_negative
    found, lesion = true_positive + false_positive, true_positive + false_negative
    background = true_negative + false_positive
    nothing = true_positive + wrong == 0
    iou = 1.0 if nothing else true_positive / (true_positive + wrong)
    return {
        "dice": 1.0 if nothing else 2 * true_positive / (2 * true_positive + wrong),
        "iou": iou,
        "precision": true_positive / found if found else float(nothing),
        "sensitivity": true_positive / lesion if lesion else 1.0,
        "specificity": true_negative / background if background else 1.0,
        "accuracy": (true_positive + true_negative) / (true_positive + wrong + true_negative),
        "iou_at_65": iou if iou >= FAILED else 0.0,
    }


def pooled_scores(rows: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Overlap scores of all images' pixels together, from rows with COUNTS, at least one."""
    counts = np.array([[row[name] for name in COUNTS] for row in rows], dtype=np.int64)
    if not len(counts):
        raise ValueError("no image to score")
    return overlap_scores(*(int(total) for total in counts.sum(0)))


def dice_from_counts(overlap: Tensor, predicted: Tensor, truth: Tensor) -> Tensor:
    """Per-image Dice from the pixel counts |P∩T|, |P|, |T|, each (B,) -> (B,) float32; 1 where both are empty."""
    total = (predicted + truth).float()
    return (2 * overlap.float() / total.clamp(min=1)).masked_fill(total == 0, 1.0)
