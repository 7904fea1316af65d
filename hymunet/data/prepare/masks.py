"""Mask files as people have them -> 0 and 1, or the reason why that cannot be told.

A mask says lesion or not, in whatever container. Two values say it: 0 and 1, 0 and 255 or the container's largest, or
black and another colour; in JPEG and its like, in what was a JPEG once, and along smoothed edges, two plain peaks do. A
third value (a void ring, another class) makes it another thing, which no threshold can turn into a mask: it is refused
with what was found.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from hymunet.data.prepare.peaks import drawn, smeared
from hymunet.data.prepare.png import decode_grey
from hymunet.formats import netpbm, palette
from hymunet.formats.kinds import HEAD, kind
from hymunet.images import decode

LARGEST = (1, 255, 65535, 2**31 - 1, 2**32 - 1)  # what stands for lesion beside 0
BETWEEN = 0.1  # of all pixels may lie between the two peaks: edges that were smoothed or compressed
ONE_VALUE = 0.6  # of what lies between: a value above that is a third one, and no edge
FEW = 16  # pixels between the peaks that decide nothing
LOSSY = ("jpg", "avif", "heic", "jp2")  # kinds of files that may hold other values than were drawn, as WebP may
BLOCKS = ("jpg", "avif", "heic", "webp")  # of them, and of WebP: those that leave a flat area flat
LOSSY_PEAK, LOSSY_VALUE = 63, 12  # how far a JPEG's values stray from a peak, and from a third value
SUSPECTS = 4  # most frequent values between the peaks that are looked at: an edge has no inside, an area has
ALLOWED = "allowed are two values: 0 and 1, 0 and 255, or black and one colour"


def read_mask(content: bytes, threshold: int = 127) -> np.ndarray:
    """The bytes of an image file -> uint8 (H, W) of 0 and 1, as stored: not turned.

    threshold: what lies above it, of 255, is lesion, where edges hold values between. Raises ValueError for what cannot
    be decoded, and for what is no mask, naming the values found.
    """
    form = kind(content[:HEAD])
    lossy = form in LOSSY or (content[:4] == b"RIFF" and content[12:16] == b"VP8 ")
    picture = netpbm.read(content, "mask")
    grey = _one_plane(picture.bgr(), lossy) if picture else read_plane(content, lossy)
    values, counts = _histogram(grey)
    top = next((one for one in sorted({*LARGEST, picture.largest if picture else 1}) if values[-1] <= one), None)
    if values[0] < 0 or top is None or not np.isfinite(values).all():
        raise ValueError(f"mask holds {_listed(values, counts)}; {ALLOWED}")
    if values[-1] <= 1 and len(values) == 2 and values[0] == 0:  # 0 and 1, also as floating-point numbers
        return (grey > 0).astype(np.uint8) if values[-1] == 1 else _refuse(values, counts)
    two = _two_values(grey, values, counts, top, lossy)
    if grey.dtype == np.uint8 and top == 255:
        if two and form in BLOCKS:
            two = not drawn(grey, values, counts, beside=form == "jpg")
        elif not (two or lossy):  # which may have been a JPEG once
            two = smeared(grey, values, counts) and _two_values(grey, values, counts, top, lossy=True)
    if not two:
        _refuse(values, counts)
    if grey.dtype == np.uint8 and top in (1, 255):
        return np.asarray(cv2.threshold(grey, threshold if top > 1 else 0, 1, cv2.THRESH_BINARY)[1], np.uint8)
    return (grey > threshold / 255 * top).astype(np.uint8)


def _two_values(grey: np.ndarray, values: np.ndarray, counts: np.ndarray, top: int, lossy: bool) -> bool:
    """True for 0 and `top`, or one of them, with smoothed edges at most, and as near as a lossy file holds them."""
    several = len(values) > 1
    if several and grey.dtype != np.uint8 and top > 255 and values[-1] < top:
        return False
    scaled = values * 255 / max(top, 1)
    peak = LOSSY_PEAK if lossy else 0
    low, high = scaled <= peak, scaled >= 255 - peak
    if several and not (low.any() and high.any()):
        return False
    between = ~(low | high)
    middle = int(counts[between].sum())
    return middle <= BETWEEN * grey.size and not (
        middle >= FEW and _third_value(grey, values, counts, between, top, lossy)
    )


def read_plane(content: bytes, lossy: bool = False) -> np.ndarray:
    """(H, W), of the file's own depth and as stored: where the mask is, be it grey, colours, alpha or indices."""
    grey = decode_grey(content)
    if grey is not None:
        return grey
    found = _one_plane(decode(content, cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION, "mask"), lossy)
    behind = palette.indices(content) if found.min() == found.max() else None
    return found if behind is None else behind


def _one_plane(pixels: np.ndarray, lossy: bool) -> np.ndarray:
    """(H, W) of a file with colours or alpha: where the mask is, in whichever plane."""
    if pixels.ndim == 2:
        return pixels
    colours, alpha = pixels[..., :3], pixels[..., 3] if pixels.shape[2] == 4 else None
    if pixels.shape[2] == 2:
        colours, alpha = pixels[..., :1], pixels[..., 1]
    if alpha is not None and alpha.min() != alpha.max():
        if (colours == colours[0, 0]).all():
            return np.ascontiguousarray(alpha)
        shown = _one_plane(colours, lossy)
        if not np.array_equal(shown > 0, alpha > 0):
            raise ValueError(f"mask has two shapes, one in its colours and one in its alpha; {ALLOWED}, in one of them")
        return shown
    first = colours[..., 0]
    if all(np.array_equal(first, colours[..., plane]) for plane in range(1, colours.shape[2])):
        return np.ascontiguousarray(first)
    if lossy:
        return cv2.cvtColor(colours, cv2.COLOR_BGR2GRAY)
    found = np.unique(colours.reshape(-1, 3), axis=0)
    if len(found) != 2 or found[0].any():
        listed = ", ".join(f"({red}, {green}, {blue})" for blue, green, red in found[:5].tolist())
        more = f" and {len(found) - 5:,} more" if len(found) > 5 else ""
        raise ValueError(f"mask holds {len(found):,} colours, {listed}{more}; {ALLOWED}")
    return np.where(colours.any(axis=2), np.uint8(255), np.uint8(0))


def _histogram(grey: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The values found, ascending, as float64, and how many pixels hold each."""
    if grey.dtype == np.uint8:
        counts = cv2.calcHist([grey], [0], None, [256], [0, 256]).ravel().astype(np.int64)
        return np.flatnonzero(counts).astype(np.float64), counts[counts > 0]
    values, counts = np.unique(grey, return_counts=True)
    return values.astype(np.float64), counts


def _third_value(
    grey: np.ndarray, values: np.ndarray, counts: np.ndarray, between: np.ndarray, top: int, lossy: bool
) -> bool:
    """True when what lies between the peaks is no edge: mostly of one value, or an area three pixels wide."""
    suspects = np.flatnonzero(between)[np.argsort(-counts[between], kind="stable")[:SUSPECTS]]
    if not lossy and counts[suspects[0]] > ONE_VALUE * counts[between].sum():
        return True
    stray = LOSSY_VALUE * top / 255 if lossy else 0
    areas = (((grey >= values[one] - stray) & (grey <= values[one] + stray)).astype(np.uint8) for one in suspects)
    return any(cv2.erode(area, np.ones((3, 3), np.uint8), borderValue=0).any() for area in areas)


def _listed(values: Sequence[float] | np.ndarray, counts: np.ndarray) -> str:
    order = np.argsort(-counts, kind="stable")[:5]
    shown = ", ".join(f"{values[index]:g} ({counts[index] / counts.sum():.1%})" for index in sorted(order))
    more = f" and {len(values) - 5:,} more" if len(values) > 5 else ""
    return f"the value{'s' if len(values) > 1 else ''} {shown}{more}"


def _refuse(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    raise ValueError(f"mask holds {_listed(values, counts)}; {ALLOWED}")
