"""A sheet of augmented training images, for a person to judge a recipe by."""

from pathlib import Path

import cv2
import numpy as np

from hymunet import atomic
from hymunet.data.feed.augment import Recipe
from hymunet.data.feed.dataset import TrainingData
from hymunet.data.feed.on_workers import WorkerAugment
from hymunet.places import require_folder

CONTOUR = (0, 255, 0)
MARK = b"hymunet show-augment"  # behind the PNG's end: tells a sheet of ours from a picture of somebody's
GAP = 4  # pixels between the tiles


def write_sheet(data: TrainingData, recipe: Recipe, seed: int, images: int, epochs: int, output: Path) -> int:
    """PNG: a row for each of `images` training images, evenly spread, as it is and as `epochs` epochs show it; the mask
    as its contours. Returns the number of rows: all training images at most."""
    subset = data.subset("train")
    worker = WorkerAugment(recipe, seed)
    rows = []
    for position in np.linspace(0, len(subset) - 1, min(images, len(subset))).astype(int):
        image, mask = subset[position]
        pairs = [(image, mask), *(worker(image, mask, epoch, int(position)) for epoch in range(epochs))]
        rows.append(_side_by_side([_outlined(*pair) for pair in pairs], axis=1))
    sheet = _side_by_side(rows, axis=0)
    encoded = cv2.imencode(".png", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))[1]
    atomic.write(output, encoded.tobytes() + MARK)
    return len(rows)


def require_free(output: Path) -> None:
    """Raises ValueError for a file that is not a sheet of ours."""
    require_folder(output.parent)
    if output.is_dir() or (output.exists() and not output.read_bytes().endswith(MARK)):
        raise ValueError(f"{output}: exists, and was not written by this command; name another file with --output")


def _outlined(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    contours, _ = cv2.findContours(np.ascontiguousarray(mask), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(np.array(image), contours, -1, CONTOUR, 1)


def _side_by_side(tiles: list[np.ndarray], axis: int) -> np.ndarray:
    frame = [(0, GAP if i == axis else 0) for i in range(2)] + [(0, 0)]
    return np.concatenate([np.pad(tile, frame, constant_values=255) for tile in tiles], axis)
