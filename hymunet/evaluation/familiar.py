"""Whether an image resembles those that a model was trained on, by what can be measured without knowing the truth.

Light and colour, and how much of the image is lesion: of each measure what all but 0.5 % of the training images show at
either end. Size and shape have no say: the model sees every image at its own size.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import cv2
import numpy as np

SEEN = ("brightness", "contrast", "saturation")
MEASURES = (*SEEN, "area_fraction")
TAIL = 0.005
FEWEST = 20  # images, below which ends say nothing
SIDE = 64  # light and colour are measured at this size, so that the camera's noise and the file's size have no say
KEY = "training_images"  # in metrics.json, and in the description of a model that is packed or exported
FAMILIAR, UNKNOWN = "no", "unknown"


def seen(image: np.ndarray) -> dict[str, float]:
    """image: uint8 RGB (H, W, 3) -> mean and standard deviation of its lightness, mean saturation; each from 0 to 1."""
    small = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY) / 255
    saturation = cv2.cvtColor(small, cv2.COLOR_RGB2HSV)[..., 1] / 255
    values = {"brightness": grey.mean(), "contrast": grey.std(), "saturation": saturation.mean()}
    return {name: round(float(value), 5) for name, value in values.items()}


def ends(images: Iterable[tuple[np.ndarray, float]]) -> dict[str, Any] | None:
    """images: uint8 RGB (H, W, 3) of the training, each with its lesion's share of the area.

    `images`, how many; `ends`, of each measure the two that bound all but 0.5 % on either side. None for fewer than 20.
    """
    rows = [_measured(image, fraction) for image, fraction in images]
    if len(rows) < FEWEST:
        return None
    found = {}
    for name in MEASURES:
        low, high = np.quantile([row[name] for row in rows], [TAIL, 1 - TAIL])
        found[name] = [round(float(low), 5), round(float(high), 5)]
    return {"images": len(rows), "ends": found}


def unlike(known: Mapping[str, Any] | None, image: np.ndarray, area_fraction: float) -> str:
    """In words by what an image is beyond the training images: `no`; `brightness 0.1 below 0.2; …`; or `unknown`, where
    nothing is known of them. known: as `ends` gives it; area_fraction: of the mask that was found.
    """
    if not known:
        return UNKNOWN
    told = []
    for name, value in _measured(image, area_fraction).items():
        low, high = known["ends"][name]
        if not low <= value <= high:
            side = f"below {low:.3g}" if value < low else f"above {high:.3g}"
            told.append(f"{name} {value:.3g} {side}")
    return "; ".join(told) or FAMILIAR


def _measured(image: np.ndarray, area_fraction: float) -> dict[str, float]:
    return {**seen(image), "area_fraction": round(float(area_fraction), 5)}
