"""A submission to ISIC 2018, task 1: the ZIP that its scorer takes, and the score that it gives.

The rules are those of the organisers' scorer (github.com/ImageMarkup/isic-challenge-scoring): a mask is found by the
seven figures of its image, is of one grey channel and of its image's own size, lesion is what lies above 128, and the
score is the mean over images of the Jaccard index, which counts as 0 below 0.65.
"""

import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import cv2
import numpy as np
from tqdm import tqdm

from hymunet.data.acquire.archives import Archive, pack
from hymunet.data.acquire.pairs import described, leftover
from hymunet.images import decode, rgb
from hymunet.metrics import COUNTS, overlap_scores

if TYPE_CHECKING:
    from hymunet.inference import Segmenter

IMAGE = re.compile(r"(?i)(ISIC_\d{7})\.(jpg|jpeg|png)")
NUMBER = re.compile(r"ISIC_(\d{7})")
ABOVE = 128  # what the scorer takes for lesion
OFFICIAL = 1000  # images of the test set
SCORES = {"threshold_jaccard": "iou_at_65", "jaccard": "iou"}  # the scorer's names that differ from ours
SCORED = ("threshold_jaccard", "jaccard", "dice", "accuracy", "sensitivity", "specificity")
_NO_MASK = {"attribution.txt", "license.txt"}  # lie beside the masks
_PNG = [cv2.IMWRITE_PNG_COMPRESSION, 9]


@dataclass(frozen=True)
class Files:
    """Names and their content, of a folder or an archive."""

    place: Path
    names: list[str]
    read: Callable[[str], bytes]


@dataclass(frozen=True)
class Written:
    """images: how many. empty: of which in how many nothing was found."""

    images: int
    empty: int


def require_images(place: Path) -> None:
    """Raises ValueError, before a model is opened, for what holds no image of the challenge."""
    with _opened(place) as files:
        _images(files)


def require_masks(place: Path) -> None:
    """Raises ValueError, before a model is opened, for what holds no mask."""
    with _opened(place) as files:
        _truths(files)


def write(segmenter: "Segmenter", images: Path, target: Path) -> Written:
    """Masks of all images `ISIC_NNNNNNN.jpg` of a folder or ZIP into a ZIP: PNGs of 0 and 255, at the image's size.

    The pixels are taken as stored, which is what the official masks are drawn on. Equal input gives equal bytes.
    Raises ValueError naming images that cannot be read, and for a folder without any of such a name.
    """
    empty = 0

    def members(files: Files, found: dict[str, str]) -> Iterator[tuple[str, bytes]]:
        nonlocal empty
        for id, name in tqdm(sorted(found.items()), unit="image", disable=None):
            pixels = rgb(files.read(name), f"{images}: {name}", cv2.IMREAD_IGNORE_ORIENTATION)
            (mask,) = segmenter.masks([pixels])
            empty += not mask.any()
            yield f"{id}_segmentation.png", cv2.imencode(".png", 255 * mask, _PNG)[1].tobytes()

    with _opened(images) as files:
        found = _images(files)
        target.parent.mkdir(parents=True, exist_ok=True)
        pack(members(files, found), target)
    return Written(len(found), empty)


def score(submission: Path, masks: Path) -> dict[str, float]:
    """The official scores of a submission against the true masks, each a folder or a ZIP; of SCORED the means.

    Raises ValueError, naming the image, for what the scorer refuses.
    """
    rows = []
    with _opened(submission) as predicted, _opened(masks) as true:
        for name in _truths(true):
            rows.append(_scored(_grey(predicted, _prediction(predicted, name)), _binary(true, name), name))
    return {name: float(np.mean([row[SCORES.get(name, name)] for row in rows])) for name in SCORED}


def _scored(prediction: np.ndarray, truth: np.ndarray, name: str) -> dict[str, float]:
    if prediction.shape != truth.shape:
        found, wanted = (f"{shape[1]}×{shape[0]}" for shape in (prediction.shape, truth.shape))
        raise ValueError(f"{name}: the mask submitted is {found} pixels, its image {wanted}")
    a, b = prediction > ABOVE, truth > ABOVE
    counts = (a & b, a & ~b, ~a & b, ~a & ~b)
    return overlap_scores(**dict(zip(COUNTS, (int(np.count_nonzero(part)) for part in counts), strict=True)))


def _images(files: Files) -> dict[str, str]:
    """id -> name."""
    matched = [(match[1].upper(), name) for name in files.names if (match := IMAGE.fullmatch(PurePosixPath(name).name))]
    twice = [id for id, count in Counter(id for id, _ in matched).items() if count > 1]
    if twice:
        raise ValueError(f"{files.place}: {twice[0]} is there twice; the scorer takes one mask for an image")
    if not matched:
        raise ValueError(f"{files.place}: no image ISIC_NNNNNNN.jpg; found {described(files.names)}")
    return dict(matched)


def _truths(files: Files) -> list[str]:
    truths = sorted(name for name in files.names if PurePosixPath(name).name.lower() not in _NO_MASK)
    if not truths:
        raise ValueError(f"{files.place}: no mask; found {described(files.names)}")
    return truths


def _prediction(files: Files, truth: str) -> str:
    """The name that holds the figures of the truth's image."""
    number = NUMBER.search(PurePosixPath(truth).stem)
    if not number:
        raise ValueError(f"{truth}: no true mask of an image ISIC_NNNNNNN")
    found = [name for name in files.names if number[1] in PurePosixPath(name).stem]
    if len(found) != 1:
        raise ValueError(f"{files.place}: {len(found)} masks for {truth}; the scorer takes exactly one")
    return found[0]


def _grey(files: Files, name: str) -> np.ndarray:
    pixels = decode(files.read(name), cv2.IMREAD_UNCHANGED, f"{files.place}: {name}")
    if pixels.ndim != 2 or pixels.dtype != np.uint8:
        raise ValueError(f"{files.place}: {name} is not of one grey channel with 8 bits")
    return pixels


def _binary(files: Files, name: str) -> np.ndarray:
    """0 and 255; a mask of 0 and another value is brought there."""
    pixels = _grey(files, name)
    values = set(np.unique(pixels).tolist())
    if values <= {0, 255}:
        return pixels
    if len(values) > 2 or 0 not in values:
        raise ValueError(f"{files.place}: {name} holds other values than 0 and 255")
    return np.where(pixels > 0, np.uint8(255), np.uint8(0))


@contextmanager
def _opened(place: Path) -> Iterator[Files]:
    if place.is_dir():
        yield Files(
            place,
            _kept(p.relative_to(place).as_posix() for p in place.rglob("*") if p.is_file()),
            lambda name: (place / name).read_bytes(),
        )
    elif zipfile.is_zipfile(place):
        with Archive(place) as archive:
            yield Files(place, _kept(archive.names), archive.read)
    else:
        raise ValueError(f"{place}: neither a folder nor a ZIP archive that is there")


def _kept(names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if not leftover(name))
