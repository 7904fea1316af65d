"""Two plain peaks: what a drawing in black and white becomes in a JPEG, whatever file it is saved in afterwards.

A JPEG's values stray by a few about each peak, and in single pixels anywhere between them. A void ring and another
class are flat areas instead. The bounds were set on masks of Kvasir-SEG and ISIC 2018, at JPEG qualities 5 to 100.
"""

import cv2
import numpy as np

SIDES = 63, 192  # the peaks lie at or below the first and at or above the second
NEAR = 12  # values about a peak that belong to it
DISTINCT = 8  # values at least; fewer are drawn ones
BETWEEN = 0.1  # of all pixels may lie between the peaks
ONE_VALUE = 0.6  # of the values together: one that holds more is drawn
FEW = 16  # pixels that decide nothing
FLAT, BLOCK = 3, 9  # pixels: a flat area between the peaks; one beside a peak, where a JPEG's own blocks are 8 wide
STRAY = 2  # values of one area
SUSPECTS = 4  # most frequent values between the peaks that are looked at


def smeared(grey: np.ndarray, values: np.ndarray, counts: np.ndarray) -> bool:
    """True for two peaks with the traces of a JPEG about and between them, and nothing else.

    grey: uint8 (H, W); values, counts: its histogram, ascending.
    """
    if len(values) < DISTINCT:
        return False
    peaks = _peaks(values, counts)
    if peaks is None:
        return False
    between = counts[_between(values, *peaks)]
    if between.sum() > BETWEEN * grey.size:
        return False
    if between.sum() >= FEW and between.max() > ONE_VALUE * between.sum():
        return False
    return not drawn(grey, values, counts)


def drawn(grey: np.ndarray, values: np.ndarray, counts: np.ndarray, beside: bool = True) -> bool:
    """True when a value that belongs to neither peak fills a flat area, as a third thing in a drawing does.

    beside: also one next to a peak, as 1 beside 0, which other codecs than JPEG make by themselves.
    """
    peaks = _peaks(values, counts)
    if peaks is None:
        return False
    low, high = peaks
    between = np.flatnonzero(_between(values, low, high))
    suspects = between[np.argsort(-counts[between], kind="stable")[:SUSPECTS]]
    if any(_flat(_about(grey, values[one], STRAY), FLAT) for one in suspects):
        return True
    inward = ((values > low) & (values <= low + NEAR), (values < high) & (values >= high - NEAR))
    return beside and any(_one_fills(grey, values[side], counts[side]) for side in inward)


def _one_fills(grey: np.ndarray, values: np.ndarray, counts: np.ndarray) -> bool:
    if counts.sum() < FEW or counts.max() <= ONE_VALUE * counts.sum():
        return False
    return _flat(_about(grey, values[np.argmax(counts)]), BLOCK)


def _peaks(values: np.ndarray, counts: np.ndarray) -> tuple[float, float] | None:
    """The most frequent dark and the most frequent bright value."""
    dark, bright = values <= SIDES[0], values >= SIDES[1]
    if not (dark.any() and bright.any()):
        return None
    return values[dark][np.argmax(counts[dark])], values[bright][np.argmax(counts[bright])]


def _between(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return (values > low + NEAR) & (values < high - NEAR)


def _about(grey: np.ndarray, value: float, stray: int = 0) -> np.ndarray:
    return cv2.inRange(grey, value - stray, value + stray)


def _flat(area: np.ndarray, side: int) -> bool:
    return bool(cv2.erode(area, np.ones((side, side), np.uint8), borderValue=0).any())
