"""Formats that OpenCV does not read: HEIC, as telephones write it, and DICOM, by libraries of the extra `formats`.

Both come out as a PNG without loss, so that whoever reads images needs to know of one kind alone.
"""

import importlib
import io
import re
from typing import Any

import cv2
import numpy as np

EXTRA = "pip install 'hymunet[formats]'"
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_AVIF = (b"avif", b"avis")  # OpenCV's own affair
_BRANDS = 64  # bytes at the head, at most, in which brands are listed
HEAD = 132  # bytes that tell the kind of a file
_KINDS = {  # ending -> how such a file begins
    "jpg": re.compile(rb"\xff\xd8\xff"),
    "png": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "bmp": re.compile(rb"BM.{4}\0{4}.{4}[\x0c\x28\x34\x38\x40\x6c\x7c]\0{3}", re.DOTALL),
    "tif": re.compile(rb"II[*+]\0|MM\0[*+]"),
    "webp": re.compile(rb"RIFF.{4}WEBP", re.DOTALL),
    "gif": re.compile(rb"GIF8[79]a"),
    "jp2": re.compile(rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51"),
    "pnm": re.compile(rb"P[1-6]\s+(#[^\n]*\n\s*)*\d+\s"),
    "avif": re.compile(rb".{4}ftypavi[fs]", re.DOTALL),
    "dcm": re.compile(rb".{128}DICM", re.DOTALL),
}


def as_png(content: bytes, what: str) -> bytes:
    """The bytes of an image file; of a HEIC or DICOM file those of a PNG of it, upright as viewers show it.

    Raises ValueError, calling the file `what`, for a damaged one, one that holds more or other than one picture, and
    where the library that reads it is not installed.
    """
    if is_heic(content):
        pixels = _heic(content, what)
    elif _KINDS["dcm"].match(content):
        pixels = _dicom(content, what)
    else:
        return content
    done, png = cv2.imencode(".png", pixels)
    assert done
    return png.tobytes()


def kind(head: bytes) -> str | None:
    """The ending that a file's first HEAD bytes ask for; None where they are no image's that is read here."""
    if is_heic(head):
        return "heic"
    return next((ending for ending, begins in _KINDS.items() if begins.match(head)), None)


def is_heic(content: bytes) -> bool:
    if content[4:8] != b"ftyp":
        return False
    brands = [content[place : place + 4] for place in range(8, min(int.from_bytes(content[:4], "big"), _BRANDS), 4)]
    return any(brand in _HEIC for brand in brands) and not any(brand in _AVIF for brand in brands)


def _heic(content: bytes, what: str) -> np.ndarray:
    """uint8 (H, W, 3) or (H, W, 4), BGR as OpenCV has it; more than 8 bits are brought to 8, alpha stays."""
    library = _library("pillow_heif", "pillow-heif", f"{what} is a HEIC file")
    try:
        pixels = np.asarray(library.open_heif(io.BytesIO(content), convert_hdr_to_8bit=True))
    except (ValueError, OSError, RuntimeError, EOFError) as error:
        raise ValueError(
            f"{what} is a truncated or damaged HEIC ({_line(error)}); replace it by a whole copy"
        ) from None
    if pixels.ndim == 2:
        return pixels
    return np.ascontiguousarray(pixels[..., [2, 1, 0, 3][: pixels.shape[2]]])


def _dicom(content: bytes, what: str) -> np.ndarray:
    """uint8 (H, W, 3) BGR of colours; uint8 or uint16 (H, W) of greys, dark where the tissue is shown dark."""
    library = _library("pydicom", "pydicom", f"{what} is a DICOM file")
    pixel = importlib.import_module("pydicom.pixels")
    try:
        record = library.dcmread(io.BytesIO(content))
        frames, kind = int(record.get("NumberOfFrames", 1) or 1), str(record.PhotometricInterpretation)
        pixels = pixel.pixel_array(record)  # YCbCr comes out as RGB
        if kind == "PALETTE COLOR":
            pixels = pixel.apply_color_lut(pixels, record)
    except Exception as error:  # what its decoders raise has no common base
        raise ValueError(f"{what} is a DICOM that cannot be read ({_line(error)}); convert it to PNG") from None
    if frames > 1:
        raise ValueError(f"{what} is a DICOM of {frames} frames; expected one image, convert that to PNG")
    if pixels.ndim == 3:
        depth = 8 * pixels.dtype.itemsize - 8 if kind == "PALETTE COLOR" else max(0, int(record.BitsStored) - 8)
        return np.ascontiguousarray((pixels >> depth).astype(np.uint8)[..., ::-1])
    return _greys(pixels, record, pixel, what)


def _greys(pixels: np.ndarray, record: Any, pixel: Any, what: str) -> np.ndarray:
    """Stored values as they are to be shown: through the window, where the file has one."""
    rescaled = (float(record.get("RescaleSlope", 1)), float(record.get("RescaleIntercept", 0))) != (1.0, 0.0)
    if pixels.dtype.kind != "u" or rescaled:
        raise ValueError(
            f"{what} is a DICOM of measured values (signed or rescaled), which have no one way to be shown; "
            "convert it to PNG with the window that is wanted"
        )
    top = 2 ** int(record.BitsStored) - 1
    if "WindowCenter" in record or "VOILUTSequence" in record:
        shown = np.asarray(pixel.apply_voi_lut(pixels, record), np.float64)
        pixels, top = np.rint(np.clip(shown / top, 0, 1) * 255).astype(np.uint8), 255
    return np.asarray(top - pixels, pixels.dtype) if record.PhotometricInterpretation == "MONOCHROME1" else pixels


def _library(module: str, package: str, what: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError:
        raise ValueError(f"{what}, which the package {package} reads; {EXTRA}, or convert it to PNG") from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
