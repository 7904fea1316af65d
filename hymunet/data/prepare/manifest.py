"""The manifest: one row of facts per image, taken at native size."""

import hashlib
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from hymunet import atomic

FIELDS: dict[str, type] = {
    "id": str,
    "sha256_image": str,
    "sha256_mask": str,
    "width": int,
    "height": int,
    "mask_area": float,
    "components": int,
    "holes": int,
    "touches_border": bool,
    "dark_corners": int,
    "perceptual_hash": str,
    "official_split": str,  # where the source's publisher puts the image; empty when the split is ours to make
}


def facts(image: bytes, mask: bytes, pixels: np.ndarray, binary: np.ndarray) -> dict[str, Any]:
    """pixels (H, W, 3) RGB and binary (H, W) of 0 and 1, as decoded from the encoded bytes `image` and `mask`."""
    height, width = binary.shape
    left, top, across, down = cv2.boundingRect(binary)
    lesion = binary[top : top + down, left : left + across]  # outside it there is nothing to count
    # Two levels: outlines of pieces (8-connected), and within them those of holes (4-connected).
    found = cv2.findContours(lesion, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)[1] if lesion.size else np.empty((1, 0, 4))
    components = int((found[0, :, 3] < 0).sum())
    holes = found.shape[1] - components
    return {
        "sha256_image": hashlib.sha256(image).hexdigest(),
        "sha256_mask": hashlib.sha256(mask).hexdigest(),
        "width": width,
        "height": height,
        "mask_area": cv2.countNonZero(binary) / binary.size,
        "components": components,
        "holes": holes,
        "touches_border": lesion.size > 0 and (left == 0 or top == 0 or left + across == width or top + down == height),
        "dark_corners": _dark_corners(pixels),
        "perceptual_hash": f"{perceptual_hash(pixels):016x}",
    }


def perceptual_hash(pixels: np.ndarray) -> int:
    """64 bits: the signs, about their median, of the lowest 8×8 cosine coefficients of the grey image at 32×32."""
    grey = cv2.cvtColor(cv2.resize(pixels, (32, 32), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    low = cv2.dct(grey.astype(np.float32))[:8, :8].ravel()
    bits = low > np.median(low[1:])
    return int("".join("1" if bit else "0" for bit in bits), 2)


def write_manifest(rows: list[dict[str, Any]], path: Path) -> None:
    """One row per image, with the fields FIELDS."""
    import pyarrow
    import pyarrow.json
    import pyarrow.parquet

    # By way of JSON: pyarrow imports pandas to look at Python's own lists, which takes as long as a hundred images.
    lines = pyarrow.BufferReader("\n".join(map(json.dumps, rows)).encode())
    options = pyarrow.json.ParseOptions(explicit_schema=_schema(), unexpected_field_behavior="error")
    table = pyarrow.json.read_json(lines, parse_options=options).combine_chunks()
    content = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(table, content, compression="zstd", write_page_checksum=True)
    atomic.write(path, content.getvalue().to_pybytes())


def read_manifest(path: Path) -> list[dict[str, Any]]:
    """The rows, sorted by id, as the split's are: either file's rows are the arrays'.

    ValueError when the file is missing, damaged or in another order.
    """
    import pyarrow.parquet

    if not path.is_file():
        raise ValueError(f"{path}: no such file; run the prepare step first")
    try:
        table = pyarrow.parquet.read_table(path, page_checksum_verification=True)
        if not table.schema.equals(_schema()):
            raise ValueError(f"columns are {', '.join(table.column_names)}")
        table.validate(full=True)
        rows: list[dict[str, Any]] = table.to_pylist()
        if any(row["id"] >= later["id"] for row, later in pairwise(rows)):
            raise ValueError("its ids are in no order, or one stands twice")
        return rows
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path}: not a manifest of this version ({reason}); run the prepare step again") from None


def _schema() -> Any:
    import pyarrow

    types = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float64(), bool: pyarrow.bool_()}
    return pyarrow.schema([(name, types[kind]) for name, kind in FIELDS.items()])


def open_array(path: Path) -> np.ndarray:
    """An array that prepare wrote, memory-mapped.

    ValueError, naming the file, when preparing again mends it: it is missing or not whole. A file that may not be read,
    or a folder in its place, stays an OSError.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; run the prepare step first") from None
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path}: not a readable .npy array ({error}); run the prepare step again") from None
    if getattr(array, "dtype", None) != np.uint8:
        found = getattr(array, "dtype", "an archive of arrays")
        raise ValueError(f"{path}: expected an array of uint8, found {found}; run the prepare step again")
    return array


def _dark_corners(pixels: np.ndarray) -> int:
    """How many of the four corners are nearly black, as under a dermoscope's vignette."""
    height, width = (max(1, side // 20) for side in pixels.shape[:2])
    corners = (pixels[:height, :width], pixels[:height, -width:], pixels[-height:, :width], pixels[-height:, -width:])
    return sum(int(corner.mean() < 30) for corner in corners)
