"""Which way up a picture is shown: one number for all kinds of files, as EXIF counts; AVIF says it in boxes of its own.

Read and done here alone, since decoders differ: OpenCV turns TIFF whatever it is asked, and AVIF never.
"""

import struct
from collections.abc import Iterator

import numpy as np

from hymunet.formats.kinds import is_avif

UPRIGHT = 1
_TAG = 0x0112  # of TIFF
_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_INVERSE = {6: 8, 8: 6}
_OF_BOXES = {  # quarter turns against the clock, then the mirror's axis where there is one -> EXIF's number
    **{(0, None): 1, (0, 0): 4, (0, 1): 2, (1, None): 8, (1, 0): 5, (1, 1): 7},
    **{(2, None): 3, (2, 0): 2, (2, 1): 4, (3, None): 6, (3, 0): 7, (3, 1): 5},
}


def orientation(content: bytes) -> int:
    """EXIF's number, 1 to 8; 1, upright, where the file says nothing that can be understood."""
    try:
        if is_avif(content):
            boxes = dict(_shown_by(content))
            axis = boxes[b"imir"][0] & 1 if b"imir" in boxes else None
            return _OF_BOXES[boxes.get(b"irot", b"\0")[0] & 3, axis]
        block = _exif(content)
        return _entry(block) if block else UPRIGHT
    except (struct.error, IndexError, KeyError):
        return UPRIGHT


def cropped(content: bytes) -> bool:
    """True for an AVIF that asks viewers to show a part of it."""
    try:
        return is_avif(content) and b"clap" in dict(_shown_by(content))
    except (struct.error, IndexError, KeyError):
        return False


def turned(pixels: np.ndarray, number: int) -> np.ndarray:
    """(H, W[, C]) as stored -> as shown, of a file with this orientation."""
    if number in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if number in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if number in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def turned_back(pixels: np.ndarray, number: int) -> np.ndarray:
    """(H, W[, C]) as shown -> as stored."""
    return turned(pixels, _INVERSE.get(number, number))


def _exif(content: bytes) -> bytes | None:
    """The TIFF block with the tags, of a JPEG, PNG, WebP or TIFF file."""
    if content[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return content
    if content.startswith(_JPEG):
        position = 2
        while content[position + 1] != 0xDA:  # the scan
            if content[position + 1] == 0xFF:  # a byte that fills
                position += 1
                continue
            marker, length = struct.unpack_from(">xBH", content, position)
            if marker == 0xE1 and content[position + 4 : position + 10] == b"Exif\0\0":
                return content[position + 10 : position + 2 + length]
            position += 2 + length
    elif content.startswith(_PNG) or content[:4] == b"RIFF":
        png = content.startswith(_PNG)
        position, kind, order = (len(_PNG), b"eXIf", ">I4s") if png else (12, b"EXIF", "<4sI")
        while position + 8 <= len(content):
            one, other = struct.unpack_from(order, content, position)
            length, found = (one, other) if png else (other, one)
            if found == kind:
                block = content[position + 8 : position + 8 + length]
                return block.removeprefix(b"Exif\0\0")
            position += 12 + length if png else 8 + length + length % 2
    return None


def _entry(tiff: bytes) -> int:
    """Of the first directory, of a TIFF or BigTIFF block."""
    order = "<" if tiff[:2] == b"II" else ">"
    big = b"+" in tiff[2:4]
    count, offset, size = ("Q", "Q", 20) if big else ("H", "I", 12)
    (start,) = struct.unpack_from(order + offset, tiff, 8 if big else 4)
    (entries,) = struct.unpack_from(order + count, tiff, start)
    for index in range(min(entries, len(tiff) // size)):
        place = start + struct.calcsize(count) + index * size
        tag, kind = struct.unpack_from(f"{order}HH", tiff, place)
        if tag == _TAG:
            width = {3: "H", 4: "I"}.get(kind, "H")
            (value,) = struct.unpack_from(order + width, tiff, place + size - struct.calcsize(offset))
            return value if 1 <= value <= 8 else UPRIGHT
    return UPRIGHT


def _shown_by(avif: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of the boxes that say how the file's main picture is shown."""
    outer = dict(_boxes(avif, 0, len(avif)))
    meta = dict(_boxes(avif, outer[b"meta"][0] + 4, outer[b"meta"][1])) if b"meta" in outer else {}
    if not {b"pitm", b"iprp"} <= meta.keys():
        return
    place, _ = meta[b"pitm"]
    (picture,) = struct.unpack_from(">I" if avif[place] else ">H", avif, place + 4)
    of_pictures = dict(_boxes(avif, *meta[b"iprp"]))
    boxes = list(_boxes(avif, *of_pictures[b"ipco"]))
    place, _ = of_pictures[b"ipma"]
    wide_names, wide_numbers = avif[place] > 0, avif[place + 3] & 1
    (pictures,) = struct.unpack_from(">I", avif, place + 4)
    place += 8
    for _ in range(pictures):
        (name,) = struct.unpack_from(">I" if wide_names else ">H", avif, place)
        place += 4 if wide_names else 2
        numbers = avif[place]
        kind = ">H" if wide_numbers else ">B"
        for index in range(numbers):
            (number,) = struct.unpack_from(kind, avif, place + 1 + index * struct.calcsize(kind))
            number &= 0x7FFF if wide_numbers else 0x7F
            if name == picture and number:
                box, (start, end) = boxes[number - 1]
                yield box, avif[start:end]
        place += 1 + numbers * struct.calcsize(kind)


def _boxes(content: bytes, start: int, end: int) -> Iterator[tuple[bytes, tuple[int, int]]]:
    """Kind of each box, and where its content lies."""
    while start + 8 <= end:
        size, kind = struct.unpack_from(">I4s", content, start)
        head = 8
        if size == 1:
            (size,), head = struct.unpack_from(">Q", content, start + 8), 16
        size = size or end - start
        if size < head:
            return
        yield kind, (start + head, min(start + size, end))
        start += size
