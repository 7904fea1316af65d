"""Encoded bytes of an image and its mask -> arrays of one size, and what is true of them at their native size."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from hymunet.data.prepare.jpeg import decode_rgb
from hymunet.data.prepare.manifest import facts
from hymunet.data.prepare.masks import read_mask
from hymunet.data.prepare.orientation import FLAGS, SHOWN, STORED
from hymunet.formats.orientation import UPRIGHT, orientation
from hymunet.images import JPEG, decode, resize, rgb

REDUCED = {  # libjpeg averages while decoding: at 1/2, 1/4, 1/8 it computes that much less
    1: cv2.IMREAD_COLOR_RGB,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
VIEW = 192  # pixels per side of the lesion view
VIEW_SPAN = 1.5  # the view's side, in longer sides of the lesion's bounding box
EMPTY = "mask is empty"  # what is wrong with a pair where that is not allowed
VIEW_DETAIL = 256  # the reduced image keeps at least this many pixels on its shorter side


@dataclass(frozen=True)
class Prepared:
    """One pair: image uint8 (S, S, 3) RGB, mask uint8 (S, S) of 0 and 1, view uint8 (VIEW, VIEW) as `lesion_view`;
    native: the mask at its own size, uint8 (H, W) of 0 and 1."""

    image: np.ndarray
    mask: np.ndarray
    view: np.ndarray
    native: np.ndarray
    facts: dict[str, Any]


def decode_pair(
    image: bytes, mask: bytes, threshold: int, size: int, masks_on: str | None = None, empty: bool = False
) -> Prepared:
    """threshold: as in `masks.read_mask`. masks_on: what masks are drawn on where an image's file turns it and the mask
    fits both ways, the image as SHOWN or the pixels as STORED; None: such an image is refused. empty: whether the mask
    may be empty.

    Raises ValueError saying what is wrong with the pair.
    """
    binary = read_mask(mask, threshold)
    foreground = cv2.countNonZero(binary)
    if foreground == binary.size:
        raise ValueError("mask is all lesion")
    if not foreground and not empty:
        raise ValueError(EMPTY)
    pixels = decode_under(image, mask, binary, size, masks_on)
    small_mask = on_grid(binary, size)
    view = lesion_view(pixels, binary)
    return Prepared(resize(pixels, size), small_mask, view, binary, facts(image, mask, pixels, binary))


def on_grid(binary: np.ndarray, size: int) -> np.ndarray:
    """uint8 (H, W) of 0 and 1 -> (size, size). Raises ValueError for a lesion of which nothing would be left."""
    small = cv2.resize(binary, (size, size), interpolation=cv2.INTER_NEAREST_EXACT)
    if (foreground := cv2.countNonZero(binary)) and not small.any():
        raise ValueError(f"lesion of {foreground} pixels vanishes at {size}×{size}; a larger image_size keeps it")
    return small


def decode_under(image: bytes, mask: bytes, binary: np.ndarray, size: int, masks_on: str | None = None) -> np.ndarray:
    """The image as its mask lies on it, uint8 RGB at the mask's native size or reduced to no less than `size` needs.

    binary (H, W): the decoded mask. masks_on and errors as of `decode_pair`.
    """
    if masks_on is None and not cv2.countNonZero(binary):
        masks_on = SHOWN  # nothing is drawn that could lie wrongly
    return _decode_like(image, binary, size, STORED if _turned_alike(image, mask) else masks_on)


def _turned_alike(image: bytes, mask: bytes) -> bool:
    """True where their files turn both the same way, so that they belong together as stored.

    Raises ValueError where the mask is turned alone, or otherwise: nothing tells how the two lie on each other.
    """
    turned = orientation(mask)
    if turned not in (UPRIGHT, orientation(image)):
        raise ValueError(
            f"mask is turned by its EXIF or its AVIF boxes (orientation {turned}) and the image otherwise "
            f"(orientation {orientation(image)}); save the mask upright, without them"
        )
    return turned != UPRIGHT


def _decode_like(content: bytes, mask: np.ndarray, size: int, masks_on: str | None) -> np.ndarray:
    """The image, right way up as its mask is, decoded no larger than is needed."""
    factor = 1
    if content[:3] == JPEG:
        factor = _reduction(mask.shape, max(size, VIEW_DETAIL))
        plain = decode_rgb(content, mask.shape, factor)
        if plain is not None:
            return plain
    reduced = tuple(-(-side // factor) for side in mask.shape)
    turned = orientation(content)
    fitting = []
    for flag in [FLAGS[masks_on or SHOWN]] if turned == UPRIGHT else FLAGS.values():
        if factor == 1:
            pixels = rgb(content, "image", flag)
        else:
            pixels = cv2.cvtColor(decode(content, REDUCED[factor] | flag, "image"), cv2.COLOR_BGR2RGB)
        if pixels.shape[:2] == reduced:
            fitting.append(pixels)
    if not fitting:
        height, width = rgb(content, "image").shape[:2]
        raise ValueError(f"image is {width}×{height}, mask {mask.shape[1]}×{mask.shape[0]}")
    if len(fitting) == 1 or np.array_equal(fitting[0], fitting[1]):
        return fitting[0]
    if masks_on is None:
        raise ValueError(
            f"image is turned by its EXIF or its AVIF boxes (orientation {turned}) and the mask fits both ways; say "
            f"what masks are drawn on, {SHOWN} or {STORED}, with prepare.masks_on (hymunet evaluate: --masks-on), or "
            "save the image upright"
        )
    return fitting[list(FLAGS).index(masks_on)]


def _reduction(shape: tuple[int, ...], size: int) -> int:
    """The largest of 1, 2, 4, 8 that leaves both sides at `size` or more."""
    return max(factor for factor in REDUCED if factor == 1 or min(shape) // factor >= size)


def lesion_view(pixels: np.ndarray, binary: np.ndarray) -> np.ndarray:
    """The lesion and its surroundings, square and in one scale, for telling one lesion from another.

    pixels (h, w, 3) RGB, possibly reduced; binary (H, W) at native size. Returns uint8 (VIEW, VIEW): grey, and in the
    lowest bit the mask. The frame is continued by its border pixels.
    """
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    mask = cv2.resize(binary, grey.shape[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    left, top, width, height = cv2.boundingRect(mask if mask.any() else np.ones_like(mask))
    side = max(8, round(VIEW_SPAN * max(width, height)))
    left, top = left + (width - side) // 2, top + (height - side) // 2
    result: list[np.ndarray] = []
    for plane, border, down in ((grey, cv2.BORDER_REPLICATE, cv2.INTER_AREA), (mask, cv2.BORDER_CONSTANT, None)):
        above, below = max(0, -top), max(0, top + side - plane.shape[0])
        before, behind = max(0, -left), max(0, left + side - plane.shape[1])
        inside = plane[max(0, top) : top + side, max(0, left) : left + side]
        square = cv2.copyMakeBorder(inside, above, below, before, behind, border)
        method = cv2.INTER_NEAREST_EXACT if down is None else down if side >= VIEW else cv2.INTER_LINEAR
        result.append(np.asarray(cv2.resize(square, (VIEW, VIEW), interpolation=method), np.uint8))
    return (result[0] & 0xFE) | result[1]


def split_view(views: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """lesion_view's grey (lowest bit cleared) and its mask of 0 and 1."""
    return views & 0xFE, views & 1
