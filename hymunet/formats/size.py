"""How large a picture is by its file's head, before a pixel of it is made, and whether OpenCV makes as many."""

import struct

import simplejpeg

from hymunet.formats.kinds import HEAD, kind

SIDE, PIXELS = 2**20, 2**30  # OpenCV's own limits
SIDE_OF_PNG = 1_000_000  # libpng's
WIDTH, HEIGHT, SHORT = 256, 257, 3  # tags of a TIFF, and the type of a number in two bytes


def declared(content: bytes) -> tuple[int, int] | None:
    """Height and width in pixels, as stored, of a TIFF's first page; None where only decoding tells, and for a damaged
    head."""
    form = kind(content[:HEAD])
    try:
        if form == "jpg":
            height, width = simplejpeg.decode_jpeg_header(content)[:2]
            return height, width
        if form == "png":
            width, height = struct.unpack_from(">II", content, 16)
            return height, width
        if form == "bmp":
            short = content[14] == 12  # OS/2's first head
            width, height = struct.unpack_from("<HH" if short else "<ii", content, 18)
            return abs(height), width  # a negative height: rows from the top
        if form == "tif" and content[2:4] in (b"*\0", b"\0*"):
            return _of_tiff(content)
    except (ValueError, LookupError, struct.error):
        pass
    return None


def require_decodable(content: bytes, what: str) -> None:
    """ValueError, calling the file `what`, for more pixels than can be decoded, however whole it is."""
    if not (size := declared(content)):
        return
    side = SIDE_OF_PNG if kind(content[:HEAD]) == "png" else SIDE
    if max(size) > side or size[0] * size[1] > PIXELS:
        raise ValueError(
            f"{what} has {size[1]:,}×{size[0]:,} pixels and is too large to be decoded: at most {side:,} on a side and "
            f"{PIXELS:,} in all are; make it smaller, or cut it into parts"
        )


def _of_tiff(content: bytes) -> tuple[int, int]:
    order = "<" if content.startswith(b"II") else ">"
    (place,) = struct.unpack_from(f"{order}I", content, 4)
    (count,) = struct.unpack_from(f"{order}H", content, place)
    found = {}
    for number in range(count):
        start = place + 2 + 12 * number
        tag, form = struct.unpack_from(f"{order}HH", content, start)
        if tag in (WIDTH, HEIGHT):
            (found[tag],) = struct.unpack_from(f"{order}{'H' if form == SHORT else 'I'}", content, start + 8)
    return found[HEIGHT], found[WIDTH]
