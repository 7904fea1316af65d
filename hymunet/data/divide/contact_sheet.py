"""A picture of the near-duplicate groups, so that a person can judge them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from hymunet import atomic

CAPTION = 14  # pixels above each image
GAP = 8  # between groups
WIDTH = 12  # images in a line


def contact_sheet(
    groups: Mapping[str, str], ids: Sequence[str], images: np.ndarray, path: Path, side: int = 112
) -> None:
    """Writes a PNG with every group of several, its members side by side under their ids; groups follow one another.

    groups: id -> group. images (N, S, S, 3) RGB in the order of ids.
    """
    row_of = {id: row for row, id in enumerate(ids)}
    members: dict[str, list[str]] = {}
    for id in ids:
        members.setdefault(groups[id], []).append(id)
    lines: list[list[list[str]]] = [[]]
    for group in (group for group in members.values() if len(group) > 1):
        if sum(map(len, lines[-1])) + len(group) > WIDTH and lines[-1]:
            lines.append([])
        lines[-1].append(group)
    widest = max((_width(line, side) for line in lines), default=0)
    sheet = np.full((len(lines) * (side + CAPTION + GAP), max(widest, side), 3), 255, np.uint8)
    for number, line in enumerate(lines):
        top, left = number * (side + CAPTION + GAP), 0
        for group in line:
            for id in group:
                tile = cv2.resize(images[row_of[id]], (side, side), interpolation=cv2.INTER_AREA)
                sheet[top + CAPTION : top + CAPTION + side, left : left + side] = tile
                place = (left + 2, top + CAPTION - 3)
                cv2.putText(sheet, id[-14:], place, cv2.FONT_HERSHEY_PLAIN, 0.75, (0, 0, 0), 1, cv2.LINE_AA)
                left += side
            left += GAP
    atomic.write(path, cv2.imencode(".png", sheet[..., ::-1])[1].tobytes())


def _width(line: list[list[str]], side: int) -> int:
    return sum(len(group) * side + GAP for group in line)
