"""PBM, PGM and PPM, binary and in text, with whatever largest value their heads name: OpenCV takes most for 255."""

import re
from dataclasses import dataclass

import numpy as np

_HEAD = re.compile(rb"P([1-6])((?:\s+|#[^\r\n]*[\r\n])+)")
_NUMBER = re.compile(rb"(?:\s|#[^\r\n]*[\r\n])*(\d+)")
_COMMENT = re.compile(rb"#[^\r\n]*")
BITMAP, TEXT, COLOURS = b"14", b"123", b"36"
LARGEST = 65535


@dataclass(frozen=True)
class Picture:
    """pixels: uint8 or uint16, grey (H, W) or RGB (H, W, 3), 0 to `largest`."""

    pixels: np.ndarray
    largest: int

    def bgr(self) -> np.ndarray:
        """As OpenCV has it: colours the other way round, greys as they are."""
        return self.pixels[..., ::-1] if self.pixels.ndim == 3 else self.pixels

    def eight_bits(self) -> np.ndarray:
        """uint8 of the same shape, white at 255; not for a `largest` of 65535, which says nothing of what it holds."""
        if self.largest == 255:
            return self.pixels
        if self.largest > 255:
            return (self.pixels.astype(np.uint32) * 256 // (self.largest + 1)).astype(np.uint8)
        return np.rint(self.pixels.astype(np.float32) * (255 / self.largest)).astype(np.uint8)


def read(content: bytes, what: str) -> Picture | None:
    """None for a file of another kind. Raises ValueError, calling the file `what`, for one that is not as it says."""
    if not (head := _HEAD.match(content)):
        return None
    kind, place = head[1], head.end(1)
    numbers = []
    for _ in range(2 if kind in BITMAP else 3):
        if not (found := _NUMBER.match(content, place)):
            raise ValueError(f"{what} is a damaged {_name(kind)} (its head is not whole); replace it by a whole copy")
        numbers.append(int(found[1]))
        place = found.end()
    width, height, largest = (*numbers, 1)[:3]
    if not (width and height and 0 < largest <= LARGEST):
        raise ValueError(
            f"{what} is a {_name(kind)} of {width}×{height} pixels with values to {largest}; sides must be at least 1, "
            f"values within {LARGEST}"
        )
    count = width * height * (3 if kind in COLOURS else 1)
    values = (
        _text(content[place:], kind, count, what)
        if kind in TEXT
        else _binary(content[place:], kind, width, height, count, largest, what)
    )
    if values.max() > largest:
        raise ValueError(f"{what} is a {_name(kind)} that holds {values.max()} and says its largest value is {largest}")
    pixels = values.astype(np.uint8 if largest <= 255 else np.uint16)
    if kind in BITMAP:
        pixels = 1 - pixels  # 1 is black
    return Picture(pixels.reshape((height, width, 3) if kind in COLOURS else (height, width)), largest)


def _text(body: bytes, kind: bytes, count: int, what: str) -> np.ndarray:
    body = _COMMENT.sub(b"", body)
    try:
        words = re.findall(rb"[01]", body) if kind == b"1" else body.split(None, count)
        values = np.array(words[:count], "S6").astype(np.int64)
    except ValueError:
        raise ValueError(f"{what} is a damaged {_name(kind)} (not numbers alone); replace it by a whole copy") from None
    if len(values) < count:
        raise _early(kind, len(values), count, what)
    return values


def _binary(body: bytes, kind: bytes, width: int, height: int, count: int, largest: int, what: str) -> np.ndarray:
    size = height * -(-width // 8) if kind in BITMAP else count * (2 if largest > 255 else 1)
    text_mode = body.startswith(b"\r\n") and len(body) >= size + 2  # of a program that wrote its head as Windows text
    body = body[2 if text_mode else 1 :]
    if len(body) < size:
        raise _early(kind, len(body), size, what)
    if (another := _HEAD.match(body[size:].lstrip())) and another[1] == kind:
        raise ValueError(f"{what} holds several pictures (pages or an animation); save the one that is meant")
    if kind in BITMAP:
        rows = np.frombuffer(body, np.uint8, size).reshape(height, -1)
        return np.unpackbits(rows, axis=1)[:, :width].ravel()
    return np.frombuffer(body, ">u2" if largest > 255 else np.uint8, count)


def _early(kind: bytes, found: int, expected: int, what: str) -> ValueError:
    return ValueError(
        f"{what} is a truncated {_name(kind)} (it ends early, {found:,} of {expected:,}); replace it by a whole copy"
    )


def _name(kind: bytes) -> str:
    return {b"1": "PBM", b"4": "PBM", b"2": "PGM", b"5": "PGM"}.get(kind, "PPM")
