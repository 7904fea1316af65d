"""From a request's body to pixels. Nothing touches the disk, no name that a client sends is used, and an image is
decoded only after its head has said how large it is.
"""

from __future__ import annotations

import asyncio
import io
import math
import warnings
from collections.abc import AsyncGenerator

import numpy as np
from fastapi import Request
from PIL import Image, TiffImagePlugin
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from hymunet import images
from hymunet.formats.kinds import HEAD, kind
from hymunet.formats.size import require_decodable
from hymunet.serving.limits import Limits, Refused

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP")
ACCEPTED = "PNG, JPEG, WebP, TIFF or BMP"
FIELD = "image"
BIG = 43  # the third byte of a BigTIFF, whose head is twice as long
FORM = "multipart/form-data"
FEWER_PIXELS = "send it smaller, or cut into parts; whoever runs the server can take more: --max-pixels"
DISCARDED = 4  # times the limit: how much of a body that is too large is read, so that its sender hears the answer


async def content(request: Request, limits: Limits) -> bytes:
    """The one image file of a request, as the body itself or as the field `image` of a form.

    Raises Refused: 400 for a broken form, 408 for a slow upload, 413 for a large one, 415 for another media type.
    """
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media not in ("", FORM, "application/octet-stream") and not media.startswith("image/"):
        hint = "send the file itself with Content-Type: image/png or image/jpeg, or a form (multipart/form-data)"
        raise Refused(415, f"the body is declared as {media[:100]}; {hint} with the field {FIELD}")
    try:
        async with asyncio.timeout(limits.upload_seconds):
            body = await _body(request, limits.max_bytes)
    except TimeoutError:
        remedy = "send a smaller file; whoever runs the server can wait longer: --upload-seconds"
        raise Refused(408, f"the upload took more than {limits.upload_seconds:g} s; {remedy}") from None
    return await _file_of_form(request.headers, body) if media == FORM else body


async def _body(request: Request, most: int) -> bytes:
    remedy = "send it as JPEG, or fewer pixels of it; whoever runs the server can take more: --max-bytes"
    too_large = Refused(413, f"the body is larger than {most:,} bytes ({_in_units(most)}); {remedy}")
    declared = request.headers.get("content-length", "0")
    if int(declared) > DISCARDED * most or (int(declared) > most and "expect" in request.headers):
        raise too_large
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size <= most:
            parts.append(part)
        elif size > DISCARDED * most:
            break
        else:
            parts.clear()
    if size > most:
        raise too_large
    return b"".join(parts)


def _in_units(count: int) -> str:
    return f"{count / 2**20:.3g} MiB" if count >= 2**20 else f"{count / 2**10:.3g} KiB"


async def _file_of_form(headers: Headers, body: bytes) -> bytes:
    async def once() -> AsyncGenerator[bytes, None]:
        yield body

    parser = MultiPartParser(headers, once(), max_files=2, max_fields=10)
    parser.spool_max_size = len(body) + 1  # in memory
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError, UnicodeError) as error:
        reason = error.message if isinstance(error, MultiPartException) else "its boundary or heads are malformed"
        raise Refused(400, f"the form cannot be read: {reason}") from None
    files = [(name, value) for name, value in form.multi_items() if isinstance(value, UploadFile)]
    if [name for name, _ in files] != [FIELD]:
        found = ", ".join(repr(name[:40]) for name, _ in files) or "none"
        raise Refused(400, f"a form must hold one file, in the field {FIELD}; files found: {found}")
    return await files[0][1].read()


def decode(content: bytes, limits: Limits) -> np.ndarray:
    """An image file -> uint8 RGB (H, W, 3), turned as its EXIF says.

    Raises Refused: 413 when it declares too many pixels, 415 for another format, 422 when it is empty, damaged or holds
    several images.
    """
    _check_head(content, limits.max_pixels)
    try:
        require_decodable(content, "the image")
    except ValueError as error:
        raise Refused(413, str(error)) from None
    try:
        return images.rgb(content, "the image")
    except ValueError as error:
        raise Refused(422, str(error)) from None


def _whole(content: bytes) -> None:
    try:
        images.whole(content, "the image")
    except ValueError as error:
        raise Refused(422, str(error)) from None


def _check_head(content: bytes, max_pixels: int) -> None:
    """Reads no pixel. Pillow is asked, since OpenCV cannot tell an image's size without decoding it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if kind(content[:HEAD]) == "tif":
                _check_pixels(*_tiff_size(content), max_pixels)
                return
            with Image.open(io.BytesIO(content), formats=FORMATS) as head:
                width, height = head.size
                # A JPEG of a phone often carries previews or depth maps behind the image, which are no further images.
                several = head.format in ("PNG", "WEBP") and getattr(head, "is_animated", False)
    except Refused:
        raise
    except Image.DecompressionBombError:
        raise Refused(413, f"the image declares more than {max_pixels:,} pixels; {FEWER_PIXELS}") from None
    except Image.UnidentifiedImageError:
        _whole(content)
        raise Refused(415, f"the file is not an image that is read here: {ACCEPTED}; or its head is damaged") from None
    except Exception as error:  # parsers meet hostile bytes here: whatever they stumble over, the file is at fault
        raise Refused(422, f"the image's head is damaged ({type(error).__name__})") from None
    _check_pixels(width, height, max_pixels)
    if several:
        raise Refused(422, "the file holds several images (an animation or pages); send one of them")


def _tiff_size(content: bytes) -> tuple[int, int]:
    """Width and height of the larger of the first two pages, whatever their pixels are: Pillow's own opening knows
    fewer kinds of them than OpenCV reads, and OpenCV looks at the second to tell a page from a preview."""
    file = io.BytesIO(content)
    pages = TiffImagePlugin.ImageFileDirectory_v2(file.read(16 if content[2] == BIG else 8))
    sizes: list[tuple[int, int]] = []
    while pages.next and len(sizes) < 2:
        file.seek(pages.next)
        pages.load(file)
        sizes.append((int(pages[TiffImagePlugin.IMAGEWIDTH]), int(pages[TiffImagePlugin.IMAGELENGTH])))
    if not sizes or min(map(min, sizes)) < 1:
        raise ValueError("no page with pixels")
    return max(sizes, key=math.prod)


def _check_pixels(width: int, height: int, most: int) -> None:
    if width * height > most:
        size = f"{width:,}×{height:,} pixels, {width * height:,} in all"
        raise Refused(413, f"the image declares {size}; at most {most:,} are taken; {FEWER_PIXELS}")
