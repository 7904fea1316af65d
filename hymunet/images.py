"""Image files as people have them -> pixels as the model takes them: what preparing and serving share.

Damage is refused by name, since OpenCV fills what is missing with grey and tells of it, if at all, without the file's
name. Depths other than 8 bits are scaled by what they hold, since a 16-bit file that holds 12 bits would be black.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import simplejpeg

from hymunet.formats import netpbm
from hymunet.formats.extra import as_png
from hymunet.formats.kinds import HEAD, WORDS, kind
from hymunet.formats.orientation import cropped, orientation, turned, turned_back

if TYPE_CHECKING:
    from torch import Tensor

JPEG, PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
PAGED = ("tif", "webp", "gif", "avif")  # which may hold further pictures behind the first
DEPTHS = (8, 10, 12, 14, 16)  # bits a pixel that cameras and scanners write into 16-bit files


def read(path: Path) -> np.ndarray:
    """An image file of any kind -> uint8 RGB (H, W, 3), turned as the file says; ValueError naming a bad one."""
    return rgb(path.read_bytes(), str(path))


def rgb(content: bytes, what: str, flag: int = 0) -> np.ndarray:
    """The bytes of an image file -> uint8 RGB (H, W, 3); alpha is left out.

    But a TIFF of 8 bits whose alpha is unassociated comes out over black, as OpenCV reads it: what is transparent there
    is dark, and what is opaque is as stored. So does any file whose colours were multiplied by its alpha before.

    flag: 0 turns the image as its EXIF, or AVIF's own boxes, say; cv2.IMREAD_IGNORE_ORIENTATION leaves the pixels as
    stored.
    Raises ValueError, calling the file `what`, for an empty, truncated, damaged or unknown one, and for one of several
    pictures.
    """
    content = as_png(content, what)
    whole(content, what)
    if picture := netpbm.read(content, what):
        pixels = picture.pixels if picture.largest == netpbm.LARGEST else picture.eight_bits()
        return eight_bits(pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, 2), what)
    # Asked for RGB, OpenCV 5.0 leaves the pixels of TIFFs of 16 bits unwritten, and those of AVIFs with alpha BGR.
    found = _decoded(content, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH, flag == 0, what)
    if found is not None:
        return cv2.cvtColor(eight_bits(found, what), cv2.COLOR_BGR2RGB)
    found = _decoded(content, cv2.IMREAD_UNCHANGED, flag == 0, what)  # 32-bit greys, which OpenCV gives no colours
    if found is None:
        raise _no_image(content, what)
    return eight_bits(_colours(found), what)


def decode(content: bytes, flags: int, what: str) -> np.ndarray:
    """cv2.imdecode that refuses what is empty, truncated, damaged, no image or several: ValueError naming `what`.

    Turned as `rgb` turns; IMREAD_UNCHANGED and IMREAD_IGNORE_ORIENTATION leave the pixels as stored.
    """
    content = as_png(content, what)
    whole(content, what)
    pixels = _decoded(content, flags, not flags & cv2.IMREAD_IGNORE_ORIENTATION, what)
    if pixels is None:
        raise _no_image(content, what)
    return pixels


def whole(content: bytes, what: str) -> None:
    """Raises ValueError for a file that is empty, or a JPEG or PNG that is not whole; bytes behind its end are fine."""
    if not content:
        raise ValueError(f"{what} is an empty file")
    if content.startswith(JPEG) and (reason := _jpeg_damage(content)):
        raise ValueError(f"{what} is a truncated or damaged JPEG ({reason}); replace it by a whole copy")
    if content.startswith(PNG) and (reason := _png_damage(content)):
        raise ValueError(f"{what} is a truncated or damaged PNG ({reason}); replace it by a whole copy")
    if cropped(content):
        raise ValueError(f"{what} is an AVIF that says which part of it is to be shown; save that part as a file")


def eight_bits(pixels: np.ndarray, what: str) -> np.ndarray:
    """Pixels of any depth -> uint8. Whole numbers by the least of 8, 10, 12, 14, 16 bits that holds them all;
    floating-point numbers by 255 where all are in [0, 1], as they are where all are in [0, 255].

    Raises ValueError, naming the values found, for others.
    """
    if pixels.dtype == np.uint8:
        return pixels
    low, high = float(pixels.min()), float(pixels.max())
    found = f"{what} holds {pixels.dtype} values from {low:g} to {high:g}"
    if pixels.dtype.kind == "f":
        if not (low >= 0 and high <= 255):  # NaN compares false
            raise ValueError(f"{found}; floating-point pixels must be in 0..1 or in 0..255")
        return np.rint(pixels * (255 if high <= 1 else 1)).astype(np.uint8)
    bits = next((depth for depth in DEPTHS if high < 2**depth), None)
    if low < 0 or bits is None:
        raise ValueError(f"{found}; whole-number pixels must be in 0..65535")
    return (pixels >> (bits - 8)).astype(np.uint8)


def resize(image: np.ndarray, size: int) -> np.ndarray:
    """(H, W, 3) -> (size, size, 3): averaged down, interpolated up.

    The prepare step averages large JPEGs while it decodes them, which is the same up to rounding.
    """
    shrinks = min(image.shape[:2]) >= size
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def normalise(images: Tensor) -> Tensor:
    """uint8 (B, S, S, 3) -> float32 (B, 3, S, S) in [-1, 1], channels-last in memory."""
    return images.permute(0, 3, 1, 2).float().sub_(127.5).div_(127.5)


def check(image: object) -> None:
    """Raises ValueError, saying what was found, unless `image` is uint8 RGB (H, W, 3) with pixels."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        found = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ValueError(f"an image must be uint8 RGB of shape (height, width, 3), not {found}")
    if image.size == 0:
        raise ValueError(f"an image must have pixels; this one is {image.shape[1]}×{image.shape[0]}")


def _decoded(content: bytes, flags: int, shown: bool, what: str) -> np.ndarray | None:
    """shown: turned as the file says; else as stored."""
    logging = cv2.utils.logging  # the error raised here names the file, OpenCV's own lines do not
    logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    form = kind(content[:HEAD])
    try:
        several = _several(content, form)
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise ValueError(f"{what} cannot be decoded ({str(error).splitlines()[0]})") from None
    if several:
        raise ValueError(f"{what} holds several pictures (pages or an animation); save the one that is meant")
    if pixels is None or shown == (form == "tif"):  # OpenCV turns TIFF whatever the flags say
        return pixels
    number = orientation(content)
    return turned(pixels, number) if shown else turned_back(pixels, number)


def _several(content: bytes, form: str | None) -> bool:
    """True when another picture of the same size follows the first; a small preview, or the same again, is none."""
    if form == "png":
        return b"acTL" in content[: content.find(b"IDAT")]
    if form not in PAGED:
        return False
    file = np.frombuffer(content, np.uint8)
    if not cv2.imdecodemulti(file, cv2.IMREAD_UNCHANGED, range=(1, 2))[0]:
        return False
    _, pages = cv2.imdecodemulti(file, cv2.IMREAD_UNCHANGED, range=(0, 2))
    return len(pages) == 2 and pages[0].shape == pages[1].shape and not np.array_equal(pages[0], pages[1])


def _colours(pixels: np.ndarray) -> np.ndarray:
    """As OpenCV stores it, grey or BGR with or without alpha -> RGB."""
    return np.repeat(pixels[..., None], 3, 2) if pixels.ndim == 2 else pixels[..., 2::-1]


def _no_image(content: bytes, what: str) -> ValueError:
    form = kind(content[:HEAD])
    seems = f"it begins as .{form} does, and is cut off, damaged or of a rare form; replace it, or convert it to PNG"
    return ValueError(f"{what} is not an image that can be decoded; {seems if form else f'read are {WORDS}'}")


def _jpeg_damage(content: bytes) -> str:
    """What libjpeg-turbo finds wrong, or nothing. At an eighth of the size: every bit is read, few pixels are made."""
    try:
        colours = simplejpeg.decode_jpeg_header(content)[2]
        space = "CMYK" if colours in ("CMYK", "YCCK") else "GRAY"
        simplejpeg.decode_jpeg(content, space, min_height=1, min_width=1)
    except ValueError as error:
        reason = " ".join(str(error).split())
        return "" if reason.startswith("Warning") else reason  # of an unknown revision of JFIF, for one
    return ""


def _png_damage(content: bytes) -> str:
    position, kind = len(PNG), b""
    while kind != b"IEND":
        if position + 12 > len(content):
            return "it ends early"
        length, kind = struct.unpack_from(">I4s", content, position)
        end = position + 8 + length
        if end + 4 > len(content):
            return "it ends early"
        if zlib.crc32(content[position + 4 : end]) != int.from_bytes(content[end : end + 4], "big"):
            return "a checksum does not hold"
        position = end + 4
    return ""
