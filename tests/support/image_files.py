"""Image files as people, cameras and attackers send them: name -> bytes."""

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

from hymunet.data.acquire.synthetic import draw

STORING = {  # how the shown picture lies in the file, by EXIF's number
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a),
    7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
    8: lambda a: np.rot90(a, -1),
}


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def photo(size: int = 64) -> Image.Image:
    """Not square, so that a turn is seen."""
    return Image.fromarray(draw(1, size, 7)[0]).crop((0, 0, size, size * 3 // 4))


def good() -> dict[str, bytes]:
    image = photo()
    turned = Image.Exif()
    turned[0x0112] = 6
    deep = np.asarray(image.convert("L")).astype(np.uint16) * 257
    transparent = image.convert("RGBA")
    transparent.putalpha(128)
    return {
        "PNG": encoded(image, "PNG"),
        "JPEG": encoded(image, "JPEG"),
        "progressive JPEG": encoded(image, "JPEG", progressive=True),
        "grey JPEG": encoded(image.convert("L"), "JPEG"),
        "CMYK JPEG": encoded(image.convert("CMYK"), "JPEG"),
        "JPEG turned by EXIF": encoded(image, "JPEG", exif=turned),
        "JPEG with bytes behind its end": encoded(image, "JPEG") + b"depth map",
        "16-bit PNG": encoded(Image.fromarray(deep), "PNG"),
        "palette PNG": encoded(image.quantize(16), "PNG"),
        "palette PNG with a transparent colour": encoded(image.quantize(16), "PNG", transparency=3),
        "PNG with alpha": encoded(transparent, "PNG"),
        "grey PNG with alpha": encoded(transparent.convert("LA"), "PNG"),
        "black and white PNG": encoded(image.convert("1"), "PNG"),
        "WebP": encoded(image, "WEBP"),
        "TIFF": encoded(image, "TIFF"),
        "BMP": encoded(image, "BMP"),
        "one pixel": encoded(image.resize((1, 1)), "PNG"),
        "a line": encoded(image.resize((700, 1)), "PNG"),
        "large": encoded(image.resize((1500, 1100)), "JPEG"),
    }


def bad() -> dict[str, tuple[bytes, int, str]]:
    """Content, the status that it deserves, and words of the reason."""
    image = photo()
    png, jpeg, other = encoded(image, "PNG"), encoded(image, "JPEG"), image.rotate(180)
    frames: dict[str, Any] = {"save_all": True, "append_images": [other]}
    flipped = bytearray(png)
    flipped[len(png) // 2] ^= 0xFF
    start = jpeg.index(b"\xff\xc0") + 5
    wide = Image.new("L", (2**20 + 1, 1))
    return {
        "nothing": (b"", 422, "empty"),
        "text": (b"hello", 415, "not an image"),
        "SVG": (b'<svg xmlns="http://www.w3.org/2000/svg"><rect width="9" height="9"/></svg>', 415, "not an image"),
        "HTML": (b"<!doctype html><script>alert(1)</script>", 415, "not an image"),
        "PDF": (b"%PDF-1.7\n", 415, "not an image"),
        "GIF": (encoded(image, "GIF"), 415, "PNG, JPEG"),
        "HEIC": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", 415, "not an image"),
        "ZIP": (b"PK\x03\x04" + bytes(60), 415, "not an image"),
        "PNG cut": (png[: len(png) // 2], 422, "truncated"),
        "PNG cut in its head": (png[:20], 422, "damaged"),
        "PNG with a wrong checksum": (bytes(flipped), 422, "damaged"),
        "PNG magic, then noise": (png[:8] + bytes(range(256)), 422, "damaged"),
        "JPEG cut": (jpeg[: len(jpeg) // 2], 422, "truncated"),
        "JPEG cut in its head": (jpeg[:3], 422, "damaged"),
        "PNG bomb": (png_of(100_000, 100_000), 413, "more than 50,000,000 pixels; send it smaller"),
        "PNG a little too large": (png_of(10_000, 5_001), 413, "10,000×5,001 pixels"),
        "PNG wider than any is decoded": (
            png_of(1_000_001, 1),
            413,
            "1,000,001×1 pixels and is too large to be decoded",
        ),
        "TIFF wider than any is decoded": (encoded(wide, "TIFF"), 413, "1,048,577×1 pixels and is too large"),
        "BMP wider than any is decoded": (encoded(wide, "BMP"), 413, "1,048,577×1 pixels and is too large"),
        "PNG of no width": (png_of(0, 10), 415, "damaged"),
        "JPEG bomb": (jpeg[:start] + struct.pack(">HH", 65_535, 65_535) + jpeg[start + 4 :], 413, "send it smaller"),
        "animated PNG": (encoded(image, "PNG", **frames), 422, "several images"),
        "animated WebP": (encoded(image, "WEBP", **frames), 422, "several images"),
        "TIFF of two pages": (encoded(image, "TIFF", **frames), 422, "several pictures"),
    }


def png_of(width: int, height: int) -> bytes:
    """A whole PNG that declares this size; of rows it holds next to nothing."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(1_000_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
