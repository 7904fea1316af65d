"""What is to be seen in an image beside the lesion: contrast to the skin, hair, a ruler, a sticker.

Rules of thumb for finding groups of images in which a model does worse, no diagnoses: each names what it looks for, all
see the image as the model does. Nothing here judges the colour of a person's skin; published labels of it disagree.
"""

from typing import Any

import cv2
import numpy as np

from hymunet.evaluation.ruler import has_ruler

SIDE = 256  # pixels: larger images are looked at in this size


def appearance(image: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    """image uint8 RGB (S, S, 3), truth (S, S) -> `contrast` (CIE76 colour difference between the lesion and the skin
    around it; None without either), `hair` (share of the image), `ruler` and `sticker` (True or False)."""
    if image.shape[0] > SIDE:
        image = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    mask = (truth > 0).astype(np.uint8)
    if mask.shape != image.shape[:2]:
        mask = np.asarray(cv2.resize(mask, image.shape[1::-1], interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    hair, strokes = _thin_dark_lines(grey)
    return {
        "contrast": _contrast(lab, mask),
        "hair": hair,
        "ruler": has_ruler(grey, mask, strokes),
        "sticker": _sticker(lab, mask),
    }


def _contrast(lab: np.ndarray, mask: np.ndarray) -> float | None:
    side = len(mask)
    near, far = (cv2.dilate(mask, _disc(reach)) for reach in (max(1, side // 50), max(2, side // 8)))
    ring = (far > near) & (lab[..., 0] > 12)  # what is nearly black is the dermoscope's frame
    inside = mask > 0
    if not inside.any() or not ring.any():
        return None
    difference = np.median(lab[inside], axis=0) - np.median(lab[ring], axis=0)
    return round(float(np.linalg.norm(difference)), 3)


def _disc(reach: int) -> np.ndarray:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))


def _thin_dark_lines(grey: np.ndarray) -> tuple[float, np.ndarray]:
    """The share of the image under long ones, which are hair, and the centres (n, 2) x, y of short ones."""
    side = len(grey)
    width = max(3, side // 24) | 1
    dark = cv2.morphologyEx(grey, cv2.MORPH_BLACKHAT, _disc(width // 2))
    lines = (dark > 22).astype(np.uint8)
    statistics, centres = cv2.connectedComponentsWithStats(lines, connectivity=8)[2:]
    extent = np.hypot(statistics[:, cv2.CC_STAT_WIDTH], statistics[:, cv2.CC_STAT_HEIGHT])
    area = statistics[:, cv2.CC_STAT_AREA]
    thin = area < 0.35 * extent * width
    long, short = (extent > side / 8) & thin, (extent > side / 80) & (extent < side / 9)
    long[0] = short[0] = False
    return round(float(area[long].sum() / lines.size), 5), centres[short]


def _sticker(lab: np.ndarray, mask: np.ndarray) -> bool:
    """Strongly blue, green or violet patches, ink as well: no colour of skin or lesion, nor that of the light."""
    a, b = lab[..., 1], lab[..., 2]
    bright = lab[..., 0] > 20
    skin = bright & (mask == 0)
    around = np.median(lab[skin], axis=0) if skin.any() else np.zeros(3, np.float32)
    foreign = ((b < -12) | (a < -14)) & (np.hypot(a, b) > 18) & (np.hypot(a - around[1], b - around[2]) > 20) & bright
    solid = cv2.erode(foreign.astype(np.uint8), np.ones((3, 3), np.uint8))
    return bool(cv2.countNonZero(solid) > 0.004 * solid.size)
