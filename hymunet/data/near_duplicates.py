"""Images of one lesion under several ids: found by perceptual hash, confirmed by structure, gathered into groups."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

CANDIDATE_BITS = 14  # of 64; unrelated images differ in about 32
SIDE = 64  # pixels at which structure is compared
CORRELATION = 0.93
MASK_OVERLAP = 0.75


def group_ids(ids: Sequence[str], hashes: Sequence[str], images: np.ndarray, masks: np.ndarray) -> dict[str, str]:
    """id -> group, named by its first id; an image with no near-duplicate is a group of its own.

    hashes: 64-bit perceptual hashes as hexadecimal. images (N, S, S, 3) and masks (N, S, S) in the order of ids.
    """
    parent = list(range(len(ids)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for first, second in candidates(hashes):
        if same_lesion(images[first], images[second], masks[first], masks[second]):
            low, high = sorted((root(first), root(second)))
            parent[high] = low
    return {id: ids[root(index)] for index, id in enumerate(ids)}


def candidates(hashes: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs of positions whose hashes differ in at most CANDIDATE_BITS."""
    codes = np.array([int(text, 16) for text in hashes], dtype=np.uint64)
    pairs = []
    for index in range(len(codes) - 1):
        distance = np.bitwise_count(codes[index + 1 :] ^ codes[index])
        pairs += [(index, index + 1 + int(offset)) for offset in np.flatnonzero(distance <= CANDIDATE_BITS)]
    return pairs


def same_lesion(image: np.ndarray, other: np.ndarray, mask: np.ndarray, other_mask: np.ndarray) -> bool:
    """Masks overlap and structure correlates; brightness, contrast and colour balance drop out."""
    overlap = np.logical_and(mask, other_mask).sum() / np.logical_or(mask, other_mask).sum()
    return bool(overlap >= MASK_OVERLAP and (_structure(image) * _structure(other)).mean() >= CORRELATION)


def _structure(image: np.ndarray) -> np.ndarray:
    grey = cv2.cvtColor(cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    grey = grey.astype(np.float64)
    return (grey - grey.mean()) / (grey.std() + 1e-6)


def contact_sheet(groups: dict[str, str], ids: Sequence[str], images: np.ndarray, path: Path, side: int = 128) -> None:
    """A picture with one row per group of several, for a person to judge; an empty strip when there are none."""
    row_of = {id: row for row, id in enumerate(ids)}
    members: dict[str, list[str]] = {}
    for id in ids:
        members.setdefault(groups[id], []).append(id)
    rows = [group for group in members.values() if len(group) > 1]
    columns = max((len(group) for group in rows), default=1)
    sheet = np.full(((side + 14) * max(len(rows), 1), side * columns, 3), 255, np.uint8)
    for number, group in enumerate(rows):
        top = number * (side + 14)
        for column, id in enumerate(group):
            tile = cv2.resize(images[row_of[id]], (side, side), interpolation=cv2.INTER_AREA)
            sheet[top + 14 : top + 14 + side, column * side : (column + 1) * side] = tile
            cv2.putText(sheet, id[-16:], (column * side + 2, top + 11), cv2.FONT_HERSHEY_PLAIN, 0.75, (0, 0, 0))
    partial = path.with_name(f"{path.stem}.tmp.png")
    if not cv2.imwrite(str(partial), sheet[..., ::-1]):
        raise OSError(f"{path}: could not be written")
    partial.replace(path)
