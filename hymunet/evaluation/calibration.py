"""Do probabilities mean what they say? Expected calibration error, Brier score, reliability, and one temperature.

Everything comes from one histogram that grows image by image: pixels by the logit of their probability and by what they
are. Memory does not grow with the images, and the temperature is found without another pass. The adaptive error takes
its bins from the histogram, whose cells are narrow beside them; the error with bins of equal width, and Brier's, are
exact sums.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

BINS = 15  # of the reliability diagram, as is usual
BAND = 0.05  # of the image's side: how far around the lesion the second set of figures looks
LIMIT, CELLS = 16.0, 4096  # logits beyond ±LIMIT are counted at it; float32 holds no surer probability
_CENTRES = (np.arange(CELLS) + 0.5) * (2 * LIMIT / CELLS) - LIMIT


@dataclass
class Histogram:
    """Pixels seen so far. cells (2, CELLS): by truth and logit; bins (BINS, 3): pixels, their probabilities, lesion."""

    cells: np.ndarray = field(default_factory=lambda: np.zeros((2, CELLS), np.int64))
    bins: np.ndarray = field(default_factory=lambda: np.zeros((BINS, 3)))
    squares: float = 0.0

    def add(self, other: Histogram) -> None:
        self.cells += other.cells
        self.bins += other.bins
        self.squares += other.squares

    @property
    def pixels(self) -> int:
        return int(self.cells.sum())


def histogram(probability: np.ndarray, truth: np.ndarray) -> Histogram:
    """Of pixels: probability float32 in [0, 1] and truth 0 or 1, of one shape."""
    p, t = probability.ravel(), truth.ravel() > 0
    with np.errstate(divide="ignore"):
        logit = np.log(p) - np.log1p(-p)
    cell = np.clip((logit + LIMIT) * (CELLS / (2 * LIMIT)), 0, CELLS - 1).astype(np.int32)
    bin = np.minimum((p * BINS).astype(np.int32), BINS - 1)
    cells = np.bincount(cell + CELLS * t, minlength=2 * CELLS).reshape(2, CELLS)
    sums = (np.bincount(bin, weights, BINS) for weights in (None, p, t))
    return Histogram(cells, np.stack([np.asarray(part, np.float64) for part in sums], 1), float(np.square(p - t).sum()))


def band(truth: np.ndarray) -> np.ndarray:
    """Lesion and its surroundings, bool (H, W): where mistakes are made, without the easy background."""
    import cv2

    reach = max(1, round(BAND * max(truth.shape)))
    kernel = cv2.getStructuringElement(cv2.MORPH_RECT, (2 * reach + 1, 2 * reach + 1))
    return cv2.dilate((truth > 0).astype(np.uint8), kernel) > 0


def summary(found: Histogram) -> dict[str, Any]:
    """ECE with bins of equal width and with bins of equal numbers, Brier score, and the reliability diagram's points.

    Raises ValueError where there is no pixel.
    """
    pixels = found.pixels
    if not pixels:
        raise ValueError("no pixel to judge probabilities by")
    number, surety, lesion = found.bins.T
    points = [
        {"pixels": int(n), "probability": float(p / n), "lesion": float(t / n)}
        for n, p, t in zip(number, surety, lesion, strict=True)
        if n
    ]
    return {
        "ece": float(np.abs(surety - lesion).sum() / pixels),
        "adaptive_ece": adaptive_error(found.cells),
        "brier": found.squares / pixels,
        "pixels": pixels,
        "reliability": points,
    }


def adaptive_error(cells: np.ndarray) -> float:
    """ECE over BINS groups of equally many pixels, ordered by probability; a cell on a border is shared out."""
    total = cells.sum(0).astype(np.float64)
    surety = total / (1 + np.exp(-_CENTRES))
    edges = np.concatenate([[0.0], np.cumsum(total)])
    borders = np.linspace(0, edges[-1], BINS + 1)
    groups = [
        np.diff(np.interp(borders, edges, np.concatenate([[0.0], np.cumsum(part)]))) for part in (surety, cells[1])
    ]
    return float(np.abs(groups[0] - groups[1]).sum() / edges[-1])


def log_loss(cells: np.ndarray, temperature: float) -> float:
    """Mean negative log likelihood of the pixels with their logits divided by the temperature."""
    logit = _CENTRES / temperature
    return float((cells[0] @ np.logaddexp(0, logit) + cells[1] @ np.logaddexp(0, -logit)) / cells.sum())


def best_temperature(found: Histogram) -> float:
    """The temperature of the least log loss, in 0.2 to 10, to three digits (Guo et al. 2017, arXiv 1706.04599).

    The loss is convex in 1 / temperature: the interval is narrowed by the golden section.
    """
    if not found.pixels:
        raise ValueError("no pixel to choose a temperature by")
    low, high, ratio = 0.1, 5.0, (5**0.5 - 1) / 2
    while high - low > 1e-5:
        first, second = high - ratio * (high - low), low + ratio * (high - low)
        if log_loss(found.cells, 1 / first) <= log_loss(found.cells, 1 / second):
            high = second
        else:
            low = first
    return round(2 / (low + high), 3)
