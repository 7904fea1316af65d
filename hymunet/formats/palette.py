"""PNG files of indices into a palette: the indices themselves, where the colours say nothing.

Pillow writes an array as mode P with an all but empty palette: every program shows it black, and reads 0 and 1.
"""

import struct
import zlib

import cv2
import numpy as np

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_INDEXED, _GREY = 3, 0


def indices(content: bytes) -> np.ndarray | None:
    """uint8 (H, W), as stored; None for what is no whole PNG with a palette."""
    if not content.startswith(_SIGNATURE):
        return None
    grey, position, bits = [_SIGNATURE], len(_SIGNATURE), 8
    while position + 12 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, position)
        data = content[position + 8 : position + 8 + length]
        if kind == b"IHDR":
            bits, colours = data[8], data[9]
            if colours != _INDEXED:
                return None
            data = data[:9] + bytes([_GREY]) + data[10:]
        if kind in (b"IHDR", b"IDAT", b"IEND"):
            grey.append(struct.pack(">I4s", len(data), kind) + data + struct.pack(">I", zlib.crc32(kind + data)))
        position += 12 + length
    found = cv2.imdecode(np.frombuffer(b"".join(grey), np.uint8), cv2.IMREAD_UNCHANGED)
    return None if found is None else found // (255 // (2**bits - 1))
