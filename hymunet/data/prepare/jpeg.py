"""JPEG files at a fraction of their size, by libjpeg-turbo with its SIMD code, which OpenCV's wheels may lack.

The same pixels as OpenCV's (its decoder is libjpeg-turbo too), sooner.
"""

import struct

import numpy as np
import simplejpeg

START_OF_SCAN, EXIF = 0xDA, 0xE1
ORIENTATION = 0x0112  # TIFF's tag


def decode_rgb(content: bytes, shape: tuple[int, ...], factor: int) -> np.ndarray | None:
    """uint8 RGB, each side of `shape` divided by `factor` (1, 2, 4, 8) and rounded up.

    None for what only OpenCV is to judge: another shape, one to be turned, other colours than grey or YCbCr, damage.
    """
    height, width = shape
    try:
        found = simplejpeg.decode_jpeg_header(content)
        if found[:2] != (height, width) or found[2] not in ("Gray", "YCbCr") or not _upright(content):
            return None
        return simplejpeg.decode_jpeg(content, "RGB", min_height=-(-height // factor), min_width=-(-width // factor))
    except (ValueError, IndexError, struct.error):
        return None


def _upright(content: bytes) -> bool:
    """True when no EXIF block asks for the image to be turned or mirrored."""
    position = 2
    while content[position + 1] != START_OF_SCAN:
        marker, length = struct.unpack_from(">xBH", content, position)
        if marker == EXIF and content[position + 4 : position + 10] == b"Exif\0\0":
            return _orientation(content[position + 10 : position + 2 + length]) == 1
        position += 2 + length
    return True


def _orientation(tiff: bytes) -> int:
    order = "<" if tiff[:2] == b"II" else ">"
    (start,) = struct.unpack_from(f"{order}I", tiff, 4)
    (entries,) = struct.unpack_from(f"{order}H", tiff, start)
    for index in range(entries):
        tag, _, _, value = struct.unpack_from(f"{order}HHIH", tiff, start + 2 + 12 * index)
        if tag == ORIENTATION:
            return value
    return 1
