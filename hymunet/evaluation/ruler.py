"""Whether a ruler is in the picture: the scale that a dermoscope's software draws, or marks on frame or skin.

Rules of thumb, for slices. The scale is one piece, a straight line with teeth at even distances; marks are short
strokes in a line at even distances, outside the lesion, whose texture looks like them.
"""

import cv2
import numpy as np

TICKS = 7  # evenly spaced strokes in a line that make a ruler
ANGLES = 24
EVEN = 0.5  # correlation of the teeth with themselves, moved by their distance
ONE_SIDE = 0.8  # teeth are on one side of the back; hairs that cross are on both
DARKER = (12, 22)  # than what is around: of 255


def has_ruler(grey: np.ndarray, lesion: np.ndarray, strokes: np.ndarray) -> bool:
    """grey and lesion uint8 (S, S), the latter of 0 and 1; strokes (n, 2): centres x, y of short dark ones."""
    x, y = strokes.astype(int).T
    return _has_marks(strokes[lesion[y, x] == 0], len(grey)) or _has_scale(grey)


def _has_scale(grey: np.ndarray) -> bool:
    side = len(grey)
    dark = cv2.morphologyEx(grey, cv2.MORPH_BLACKHAT, np.ones((max(3, side // 50) | 1,) * 2, np.uint8))
    for least in DARKER:
        labels, statistics = cv2.connectedComponentsWithStats((dark > least).astype(np.uint8), connectivity=8)[1:3]
        extent = np.hypot(statistics[:, cv2.CC_STAT_WIDTH], statistics[:, cv2.CC_STAT_HEIGHT])
        for number in np.flatnonzero((extent > side / 3) & (statistics[:, cv2.CC_STAT_AREA] < 0.03 * extent * side)):
            left, top, width, height = statistics[number, :4]
            y, x = np.nonzero(labels[top : top + height, left : left + width] == number)
            if number and _is_comb(np.stack([x, y], 1).astype(np.float32), side):
                return True
    return False


def _is_comb(points: np.ndarray, side: int) -> bool:
    """points (n, 2) of one piece: a straight back without gaps, and teeth at even distances."""
    centred = points - points.mean(axis=0)
    along, across = np.linalg.eigh(centred.T @ centred)[1][:, ::-1].T @ centred.T
    along -= along.min()
    length, width = along.max() + 1, np.ptp(across) + 1
    if length < 0.35 * side or not 0.027 * side < width < 0.14 * length:
        return False
    counts, edges = np.histogram(across, bins=int(width))
    offset = across - edges[counts.argmax()] - 0.5
    from_back = np.abs(offset)
    sides = np.sign(offset[from_back > 2])
    if abs(sides.sum()) <= ONE_SIDE * len(sides):
        return False
    if len(np.unique(along[from_back <= 1.2].astype(int))) < 0.95 * length:
        return False
    teeth = np.bincount(along[from_back > 2].astype(int), minlength=int(length)).astype(np.float64)
    teeth -= teeth.mean()
    alike = np.correlate(teeth, teeth, "full")[len(teeth) - 1 :]
    return bool(alike[3 : side // 12].max(initial=0) > EVEN * alike[0])


def _has_marks(centres: np.ndarray, side: int) -> bool:
    """Whether enough of the points lie in one line at even distances."""
    if not TICKS <= len(centres) <= 400:
        return False
    for angle in np.arange(ANGLES) * (np.pi / ANGLES):
        along = centres @ (np.cos(angle), np.sin(angle))
        across = centres @ (-np.sin(angle), np.cos(angle))
        band = np.floor(across / (side / 40)).astype(int)
        for one in np.unique(band):
            gaps = np.diff(np.sort(along[(band == one) | (band == one + 1)]))
            gaps = gaps[gaps > side / 100]
            if len(gaps) < TICKS - 1:
                continue
            even = np.abs(gaps - np.median(gaps)) < 0.2 * np.median(gaps)
            if even.sum() >= TICKS - 1 and even.mean() > 0.6:
                return True
    return False
