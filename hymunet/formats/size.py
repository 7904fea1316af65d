"""How large a picture is by its file's head, before a pixel of it is made."""

import struct

import simplejpeg

from hymunet.formats.kinds import HEAD, kind


def declared(content: bytes) -> tuple[int, int] | None:
    """Height and width in pixels, as stored; None where only decoding tells, and for a damaged head."""
    form = kind(content[:HEAD])
    try:
        if form == "jpg":
            height, width = simplejpeg.decode_jpeg_header(content)[:2]
            return height, width
        if form == "png":
            width, height = struct.unpack_from(">II", content, 16)
            return height, width
    except (ValueError, struct.error):
        pass
    return None
