"""The probability above which a pixel counts as lesion, chosen on the validation images."""

from collections.abc import Iterable

import numpy as np

from hymunet.masks import cut

CANDIDATES = np.round(np.arange(0.05, 0.951, 0.01), 2)


def best_threshold(pairs: Iterable[tuple[np.ndarray, np.ndarray]], largest_region: bool = False) -> float:
    """The candidate with the highest mean Dice per image; among equals the one nearest to one half.

    Per image probabilities float32 (S, S) and a mask (S, S) of 0 and 1. largest_region: what is scored, as it will be
    served, is the largest region alone.
    """
    scores = np.zeros(len(CANDIDATES))
    count = 0
    for probability, mask in pairs:
        count += 1
        predicted, overlap = (_of_largest_regions if largest_region else _of_every_pixel)(probability, mask > 0)
        total = predicted + np.count_nonzero(mask)
        scores += np.where(total > 0, 2 * overlap / np.maximum(total, 1), 1.0)
    best = np.flatnonzero(scores >= scores.max() - 1e-9 * count)
    return float(CANDIDATES[best[np.argmin(np.abs(CANDIDATES[best] - 0.5))]])


def _of_every_pixel(probability: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each candidate how many pixels are found, and how many of them the mask has. One pass: a pixel's candidates
    are those below its probability, so that the counts for all of them are tails of one histogram."""
    exceeded = np.searchsorted(CANDIDATES.astype(np.float32), probability.ravel(), side="left")
    return _tails(exceeded), _tails(exceeded[mask.ravel()])


def _of_largest_regions(probability: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same of each candidate's largest region, which has to be looked for: it may be another one."""
    regions = [cut(probability, candidate, largest_region=True).view(bool) for candidate in CANDIDATES]
    counts = [(np.count_nonzero(region), np.count_nonzero(region & mask)) for region in regions]
    predicted, overlap = np.array(counts).T
    return predicted, overlap


def _tails(exceeded: np.ndarray) -> np.ndarray:
    """For each candidate the number of pixels above it, from the number of candidates that each pixel exceeds."""
    histogram = np.bincount(exceeded, minlength=len(CANDIDATES) + 1)
    return histogram[::-1].cumsum()[::-1][1:]
