"""The kinds of image files that are read, by their names' endings and by how they begin: one list for everybody.

OpenCV reads most of them; `netpbm` and `extra` the others.
"""

import re
from collections.abc import Callable
from pathlib import PurePosixPath

READ = "jpg|jpeg|jpe|jfif|png|bmp|dib|tif|tiff|webp|gif|jp2|avif|pbm|pgm|ppm|pnm|heic|heif|hif|dcm|dicom"
UNREAD = "nii|mha|nrrd|psd|svg|pdf|raw|cr2|cr3|nef|arw|dng|xcf|exr|jxl"
NAMED = re.compile(rf"(?i)\.({READ})$")  # a name that says it is an image of a kind that is read
ENDED = re.compile(rf"(?i)\.({READ}|{UNREAD})$")
_OLDER = re.compile(rf"(?i)\.({READ}|{UNREAD})[^a-z0-9]")  # x.jpg_original, x.png.bak: somebody's copies of before
_LETTERS = re.compile(r"\.[A-Za-z]\w{0,4}")  # an ending; not the last number of a DICOM's UID
WORDS = "JPEG, PNG, BMP, TIFF, WebP, GIF, JPEG 2000, AVIF, PBM, PGM, PPM, HEIC or DICOM"
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_AVIF = (b"avif", b"avis")  # OpenCV's own affair
_BRANDS = 64  # bytes at the head, at most, in which brands are listed
HEAD = 132  # bytes that tell the kind of a file
DICOM = re.compile(rb".{128}DICM", re.DOTALL)
_KINDS = {  # ending -> how such a file begins
    "jpg": re.compile(rb"\xff\xd8\xff"),
    "png": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "bmp": re.compile(rb"BM.{4}\0{4}.{4}[\x0c\x28\x34\x38\x40\x6c\x7c]\0{3}", re.DOTALL),
    "tif": re.compile(rb"II[*+]\0|MM\0[*+]"),
    "webp": re.compile(rb"RIFF.{4}WEBP", re.DOTALL),
    "gif": re.compile(rb"GIF8[79]a"),
    "jp2": re.compile(rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51"),
    "pnm": re.compile(rb"P[1-6]\s+(#[^\n]*\n\s*)*\d+\s"),
    "dcm": DICOM,
}


def kind(head: bytes) -> str | None:
    """The ending that a file's first HEAD bytes ask for; None where they are no image's that is read here."""
    if is_heic(head) or is_avif(head):
        return "heic" if is_heic(head) else "avif"
    return next((ending for ending, begins in _KINDS.items() if begins.match(head)), None)


def told(name: str, head: Callable[[], bytes]) -> str | None:
    """The ending that a file's content asks for, where its name says nothing of images; None for what is no image.

    head: reads its first HEAD bytes. Whole slides and their like, which are TIFFs under endings of their own, are none.
    """
    path = PurePosixPath(name)
    if ENDED.search(name) or _OLDER.search(path.name):
        return None
    ending = kind(head())
    return None if ending == "tif" and _LETTERS.fullmatch(path.suffix) else ending


def stem(name: str) -> str:
    """A path without its ending; the last number of a DICOM's UID is none."""
    return str(PurePosixPath(name).with_suffix("")) if ending(name) else str(PurePosixPath(name))


def ending(name: str) -> str:
    """What `stem` takes off: with its dot, or nothing."""
    suffix = PurePosixPath(name).suffix
    return suffix if _LETTERS.fullmatch(suffix) else ""


def is_heic(content: bytes) -> bool:
    return any(brand in _HEIC for brand in _brands(content)) and not is_avif(content)


def is_avif(content: bytes) -> bool:
    return any(brand in _AVIF for brand in _brands(content))


def _brands(content: bytes) -> list[bytes]:
    """What a file of boxes says it is, most of all first; none of another file."""
    if content[4:8] != b"ftyp":
        return []
    return [content[place : place + 4] for place in range(8, min(int.from_bytes(content[:4], "big"), _BRANDS), 4)]
