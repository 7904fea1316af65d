"""Which way up an image belongs to its mask, where its file (EXIF, or AVIF's own boxes) asks for it to be turned.

Masks are drawn on the image as viewers show it, or on the pixels as stored. Where only one of them has the mask's
shape, that decides. Where both have (upside down, mirrored, square), what the set's other pairs say does, or how well
the mask separates colours, over all such pairs together. Else the user is asked.
"""

import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import cv2
import numpy as np

from hymunet.data.prepare.masks import read_mask
from hymunet.formats.kinds import kind
from hymunet.formats.orientation import UPRIGHT, orientation
from hymunet.images import rgb

SHOWN, STORED = "shown", "stored"
FLAGS = {SHOWN: 0, STORED: cv2.IMREAD_IGNORE_ORIENTATION}
SIDE = 128  # pixels of the longer side at which colours are compared
SEEN = 0.05  # of the colours' variance that a mask must explain to have a say
CLEAR = float(np.log(3))  # how many times more it explains the one way than the other, for one image
LOOKED_AT = 200  # images that their files turn
HEAD = 2**16  # bytes of a file that hold its EXIF
ALL = -1
LATE = ("tif", "avif", "webp", "png")  # which may have it behind the pixels
Read = Callable[[int], bytes]  # so many bytes of a file, or all of it for ALL; ValueError or OSError for a bad one


def drawn_on(files: Iterable[tuple[Read, Read]], program: str, threshold: int = 127) -> str | None:
    """What masks are drawn on where EXIF turns images, as a set's own such images tell, which is said; or None.

    files: how image and mask are read. program: whose line it is. threshold: as in `masks.read_mask`.
    """
    found = list(islice(_turned(files, threshold), LOOKED_AT))
    way = convention(found)
    if found and way:
        what = "the image as shown" if way == SHOWN else "the pixels as stored"
        looked = f"EXIF turns some images ({len(found)} looked at)"
        print(f"{program}: {looked}; the masks are drawn on {what}", file=sys.stderr)
    return way


def _turned(files: Iterable[tuple[Read, Read]], threshold: int) -> Iterator[tuple[bytes, np.ndarray]]:
    """Image bytes and mask of the pairs that are sound and whose EXIF turns the image."""
    for image, mask in files:
        try:
            head = image(HEAD)
            if kind(head) in LATE:
                head = image(ALL)
            if orientation(head) != UPRIGHT:
                content = mask(ALL)
                if orientation(content) == UPRIGHT:  # else they belong together as stored, telling of no other
                    yield image(ALL), read_mask(content, threshold)
        except (ValueError, OSError):
            continue  # decoding will name it


def convention(pairs: Iterable[tuple[bytes, np.ndarray]]) -> str | None:
    """SHOWN, STORED, or None where nothing tells: of images that are to be turned, and their masks of 0 and 1."""
    sure: set[str] = set()
    evidence = []
    for content, mask in pairs:
        ways = {way: rgb(content, "image", flag) for way, flag in FLAGS.items()}
        fitting = [way for way, pixels in ways.items() if pixels.shape[:2] == mask.shape]
        if len(fitting) == 1:
            sure.add(fitting[0])
        elif len(fitting) == 2:
            explained = {way: _explained(pixels, mask) for way, pixels in ways.items()}
            if max(explained.values()) >= SEEN:
                evidence.append(np.log(max(explained[SHOWN], 1e-6) / max(explained[STORED], 1e-6)))
    if sure:
        return sure.pop() if len(sure) == 1 else None
    total = float(np.clip(evidence, -3, 3).sum()) if evidence else 0.0
    if abs(total) < CLEAR * max(1, len(evidence)) ** 0.5:
        return None
    return SHOWN if total > 0 else STORED


def _explained(pixels: np.ndarray, mask: np.ndarray) -> float:
    """The part of the colours' variance that lies between the mask's inside and its outside."""
    scale = SIDE / max(mask.shape)
    size = (max(1, round(mask.shape[1] * scale)), max(1, round(mask.shape[0] * scale)))
    colours = cv2.cvtColor(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2LAB)
    inside = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST_EXACT).ravel() > 0
    values = colours.reshape(-1, 3).astype(np.float64)
    if inside.all() or not inside.any():
        return 0.0
    apart = ((values[inside].mean(0) - values[~inside].mean(0)) ** 2).sum()
    return float(inside.mean() * (~inside).mean() * apart / max(values.var(axis=0).sum(), 1e-9))
