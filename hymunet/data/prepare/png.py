"""Masks' PNG files, several times faster than general decoders: the plain 8-bit grey ones, as masks are.

A mask is long runs of one value. zlib-ng inflates them many times faster than zlib, and csrc/png.cpp undoes the row
filters eight pixels at a time. Everything else is left to OpenCV, which gives the same pixels for these.
"""

import ctypes
import functools
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from zlib_ng import zlib_ng

LIBRARY = Path(__file__).with_name("_png.so")
SIGNATURE = b"\x89PNG\r\n\x1a\n"
PLAIN_GREY = bytes((8, 0, 0, 0, 0))  # bits, colour type, compression, filters, interlacing
WITHOUT_EFFECT = {b"bKGD", b"cHRM", b"gAMA", b"iCCP", b"iTXt", b"pHYs", b"sBIT", b"sRGB", b"tEXt", b"tIME", b"zTXt"}
MAX_PIXELS = 2**30  # OpenCV's own limit


def decode_grey(content: bytes) -> np.ndarray | None:
    """uint8 (H, W), or None for what is not a plain 8-bit grey PNG, is damaged, or when the C++ part was not built."""
    unfilter = _unfilter()
    if unfilter is None or not content.startswith(SIGNATURE):
        return None
    try:
        chunks = _chunks(content)
        (first, header), (last, _) = chunks[0], chunks[-1]
        width, height = struct.unpack(">II", header[:8])
    except (IndexError, struct.error, ValueError):
        return None
    kinds = {kind for kind, _ in chunks[1:-1]}
    if (first, header[8:], last) != (b"IHDR", PLAIN_GREY, b"IEND") or kinds - WITHOUT_EFFECT != {b"IDAT"}:
        return None
    if not 0 < width * height <= MAX_PIXELS:
        return None
    rows = _inflate(b"".join(data for kind, data in chunks if kind == b"IDAT"), height * (width + 1))
    if rows is None:
        return None
    pixels = np.empty((height, width), np.uint8)
    above = np.zeros(width, np.uint8)
    failed = unfilter(rows, width, height, above.ctypes.data, pixels.ctypes.data)
    return None if failed else pixels


def _chunks(content: bytes) -> list[tuple[bytes, bytes]]:
    """Type and data of every chunk up to IEND. ValueError for one whose CRC does not hold."""
    found: list[tuple[bytes, bytes]] = []
    position = len(SIGNATURE)
    while not found or found[-1][0] != b"IEND":
        (length,) = struct.unpack_from(">I", content, position)
        end = position + 8 + length
        if struct.unpack_from(">I", content, end)[0] != zlib.crc32(content[position + 4 : end]):
            raise ValueError("a chunk is damaged")
        found.append((content[position + 4 : position + 8], content[position + 8 : end]))
        position = end + 4
    return found


def _inflate(data: bytes, size: int) -> bytes | None:
    """Exactly `size` bytes, their checksum verified, or None."""
    stream = zlib_ng.decompressobj()
    try:
        content = stream.decompress(data, size)
        rest = stream.decompress(stream.unconsumed_tail, 1)
    except zlib_ng.error:  # type: ignore[misc]  # its stub names a class and means an exception
        return None
    return content if len(content) == size and not rest and stream.eof else None


@functools.cache
def _unfilter() -> Callable[..., int] | None:
    try:
        function = ctypes.CDLL(str(LIBRARY)).hymunet_png_unfilter
    except (OSError, AttributeError):  # not built, or for another machine
        return None
    function.argtypes = (ctypes.c_char_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)
    function.restype = ctypes.c_int
    return function
