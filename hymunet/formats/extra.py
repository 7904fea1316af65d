"""Formats that OpenCV does not read: HEIC, as telephones write it, and DICOM, by libraries of the extra `formats`.

Both come out as a PNG without loss, so that whoever reads images needs to know of one kind alone.
"""

import importlib
import io
from typing import Any

import cv2
import numpy as np

from hymunet.formats.kinds import DICOM, is_heic

EXTRA = "pip install 'hymunet[formats]'"


def as_png(content: bytes, what: str) -> bytes:
    """The bytes of an image file; of a HEIC or DICOM file those of a PNG of it, upright as viewers show it.

    Raises ValueError, calling the file `what`, for a damaged one, one that holds more or other than one picture, and
    where the library that reads it is not installed.
    """
    if is_heic(content):
        pixels = _heic(content, what)
    elif DICOM.match(content):
        pixels = _dicom(content, what)
    else:
        return content
    done, png = cv2.imencode(".png", pixels)
    assert done
    return png.tobytes()


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
