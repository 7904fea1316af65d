"""Connected regions of a mask: their contours, and their runs as COCO has them."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np


def regions(mask: np.ndarray) -> list[dict[str, Any]]:
    """Connected regions of uint8 (H, W), the largest first: `outline` and `holes` as lists of [x, y] in pixels, `box`
    as [x, y, w, h], `area_pixels`.

    Points are centres of the region's own border pixels, a hole's too; straight runs keep their ends alone. Filling the
    outline, emptying each hole and drawing its border again gives the mask back.
    """
    contours, hierarchy = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    found: dict[int, dict[str, Any]] = {}
    for number, contour in enumerate(contours):
        if hierarchy[0][number][3] < 0:
            x, y = contour[0, 0]
            left, top, width, height, area = map(int, stats[labels[y, x]])
            found[number] = {"outline": contour[:, 0].tolist(), "holes": [], "area_pixels": area}
            found[number]["box"] = [left, top, width, height]
    for number, contour in enumerate(contours):
        if (outer := int(hierarchy[0][number][3])) >= 0:
            found[outer]["holes"].append(contour[:, 0].tolist())
    return sorted(found.values(), key=lambda region: (-region["area_pixels"], region["box"]))


def drawn(region: dict[str, Any]) -> np.ndarray:
    """One region in its box, uint8 (h, w) of 0 and 1."""
    x, y, width, height = region["box"]
    rings = [np.array(ring, np.int32) - (x, y) for ring in (region["outline"], *region["holes"])]
    mask = cv2.fillPoly(np.zeros((height, width), np.uint8), rings[:1], 1)
    for hole in rings[1:]:
        cv2.fillPoly(mask, [hole], 0)
    for hole in rings[1:]:
        cv2.polylines(mask, [hole], True, 1)
    return mask


def runs(region: dict[str, Any], shape: Sequence[int]) -> list[int]:
    """COCO's uncompressed run lengths of one region in an image (H, W): column by column, background first."""
    x, y, width, height = region["box"]
    columns = np.zeros((width, shape[0]), np.uint8)
    columns[:, y : y + height] = drawn(region).T
    flat = np.concatenate([[0], columns.ravel(), [0]]).astype(np.int8)
    changes = np.flatnonzero(np.diff(flat)) + x * shape[0]
    counts = np.diff([0, *changes, shape[0] * shape[1]]).tolist()
    return counts if counts[-1] else counts[:-1]
