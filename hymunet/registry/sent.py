"""What is sent to a registered model -> pixels: arrays, or whole PNG and JPEG files, as bytes or in base64."""

import base64
import binascii
import re
import struct
from collections.abc import Iterable
from typing import Any

import numpy as np

from hymunet import images
from hymunet.formats.size import require_decodable

MAX_PIXELS = 50_000_000  # that the files of one request may declare together
_DATA_URL = re.compile(r"data:[\w.+/-]*;base64,")
_RANGE = "pixels are whole numbers from 0 to 255"
_HINT = "send the bytes of a PNG or JPEG file in base64, or pixels as lists [height][width][3]"


def pixels(sent: Iterable[Any]) -> list[np.ndarray]:
    """One image after another, each of any size -> uint8 RGB (H, W, 3).

    An image is an array uint8 (H, W, 3); nested lists of numbers from 0 to 255, whose fractions are cut off; a PNG or
    JPEG file, turned as its EXIF says, as bytes or as text in base64, with or without line breaks and `data:…;base64,`.
    Raises ValueError, with the image's number from 0, for anything else, and for files that declare more than
    MAX_PIXELS together.
    """
    found, declared = [], 0
    for number, one in enumerate(sent):
        what = f"image {number}"
        if isinstance(one, np.ndarray) and not one.ndim:
            one = one.item()
        if isinstance(one, str | bytes):
            content = _decoded(str(one), what) if isinstance(one, str) else bytes(one)  # numpy's too
            declared += _declares(content, what)
            if declared > MAX_PIXELS:
                who = f"images 0 to {number} declare" if number else f"{what} declares"
                bound = f"the files of one request may declare {MAX_PIXELS} together"
                raise ValueError(f"{who} {declared} pixels; {bound}: send smaller images, or fewer at once")
            require_decodable(content, what)
            found.append(images.rgb(content, what))
        else:
            found.append(_photograph(one, what))
    return found


def _decoded(text: str, what: str) -> bytes:
    body = text[start.end() :] if (start := _DATA_URL.match(text)) else text
    try:
        return base64.b64decode("".join(body.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        shown = text if len(text) <= 40 else f"{text[:40]}…"
        raise ValueError(f"{what} is the text {shown!r}, which is no base64 ({error}); {_HINT}") from None


def _declares(content: bytes, what: str) -> int:
    """Pixels, as a file's head says; none is decoded."""
    if not content:
        raise ValueError(f"{what} is empty; {_HINT}")
    if content.startswith(images.PNG):
        size = struct.unpack(">II", content[16:24]) if content[12:16] == b"IHDR" and len(content) >= 24 else None
    elif content.startswith(images.JPEG):
        size = _jpeg_size(content)
    else:
        raise ValueError(f"{what} is a file that begins with {content[:8]!r}, neither PNG nor JPEG; {_HINT}")
    if size is None:
        images.whole(content, what)
        raise ValueError(f"{what} has a damaged head, which does not say its size; replace it by a whole copy")
    return size[0] * size[1]


def _jpeg_size(content: bytes) -> tuple[int, int] | None:
    """Of its frame: the first segment from SOF0 to SOF15 that is no DHT, JPG or DAC (ITU-T T.81, table B.1)."""
    place = 2
    while place + 9 <= len(content) and content[place] == 0xFF:
        marker, length = content[place + 1], int.from_bytes(content[place + 2 : place + 4], "big")
        if marker == 0xFF:  # a filling byte
            place += 1
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return struct.unpack(">HH", content[place + 5 : place + 9])
        elif marker < 0xC0 or 0xD0 <= marker <= 0xD9:  # without a length, and in no head
            return None
        else:
            place += 2 + length
    return None


def _photograph(one: Any, what: str) -> np.ndarray:
    """An array as it came by Python, or what JSON makes of it."""
    array = one if isinstance(one, np.ndarray) and one.dtype != object else _numbers(one, what)
    try:
        images.check(array)
    except ValueError as error:
        raise ValueError(f"{what}: {error}; {_HINT}") from None
    if not ((array > 2) & (array < 253)).any():
        raise ValueError(
            f"{what} holds no value from 3 to 252, so it is no photograph in whole numbers from 0 to 255; were they "
            "fractions, which are cut off: multiply those in 0..1 by 255"
        )
    return array


def _numbers(lists: Any, what: str) -> np.ndarray:
    found = np.asarray(lists, object)
    if found.ndim < 3:  # rows as lists, where images of other widths came along
        found = np.array(found.tolist(), object)
    kinds = set(map(type, found.ravel()))
    if list in kinds:
        raise ValueError(f"{what} is lists of unequal lengths; {_HINT}")
    if not kinds <= {int, float}:
        raise ValueError(f"{what} is no image but {str(found.tolist())[:40]!r}; {_HINT}")
    try:
        values = found.astype(np.float64)
    except OverflowError:
        raise ValueError(f"{what} holds a number of more than 308 digits; {_RANGE}") from None
    low, high = (values.min(), values.max()) if values.size else (0, 0)
    if not (low >= 0 and high <= 255):  # NaN compares false
        raise ValueError(f"{what} holds values from {low:g} to {high:g}; {_RANGE}")
    return values.astype(np.uint8)
