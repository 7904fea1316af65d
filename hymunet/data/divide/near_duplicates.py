"""Images of one lesion under several ids, whatever their colours, scale, crop or rotation: found and grouped.

Everything is compared on `decode.lesion_view`, so that the groups do not depend on the size that training uses. Three
cheap signatures propose candidates, a bounded number for each image. A candidate is confirmed when SIFT keypoints of
the lesion agree on one similarity transform and the fine structure of both lesions correlates under it.
Descriptors and centroids are integers, so that every inner product is exact whichever library computes it.
"""

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import cv2
import numpy as np
from tqdm import tqdm

from hymunet.data.divide.candidates import Features, candidates
from hymunet.data.prepare.decode import VIEW, split_view
from hymunet.processors import processors, single_threaded_children

KEYPOINTS = 300
MARGIN = 14  # pixels of the view around the lesion whose keypoints count: skin, but no ruler
CENTRE = 40  # of an image without a lesion: about its middle, without frame, text and inset, which many share
PROCESSES, CHUNK = 8, 500  # at most, to confirm candidates, so many at a time
RATIO = 0.85  # of squared distances: best match to second best
TOLERANCE = 5.0  # pixels of the view between a keypoint and where the transform puts it
HYPOTHESES = 40  # best matches whose pairs propose transforms
SCALES = (0.5, 2.0)
MIN_KEYPOINTS = 7  # unrelated lesions reach 6 by chance
EVIDENCE = 4.5  # keypoints in agreement × correlation of fine structure
MASK_OVERLAP = 0.5
STRONG_EVIDENCE = 6.0  # enough however differently the masks were drawn


@dataclass(frozen=True)
class Match:
    """Why two images are held for one lesion."""

    keypoints: int  # in agreement about the transform
    correlation: float  # of fine structure on the lesion
    overlap: float  # intersection over union of the masks

    @property
    def same(self) -> bool:
        evidence = self.keypoints * self.correlation
        return evidence >= STRONG_EVIDENCE or (evidence >= EVIDENCE and self.overlap >= MASK_OVERLAP)


def group_ids(
    ids: Sequence[str], views: np.ndarray, hashes: Sequence[str], scratch: Path | None = None
) -> dict[str, str]:
    """id -> group, named by its first id; an image with no near-duplicate is a group of its own.

    views uint8 (N, VIEW, VIEW) of `decode.lesion_view`; hashes 64-bit perceptual hashes as hexadecimal. scratch: a
    folder with room for about 100 KB an image while this works; None: the system's folder for such files.
    """
    parent = list(range(len(ids)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for first, second in near_duplicates(views, hashes, scratch):
        low, high = sorted((root(first), root(second)))
        parent[high] = low
    return {id: ids[root(index)] for index, id in enumerate(ids)}


def near_duplicates(
    views: np.ndarray, hashes: Sequence[str], scratch: Path | None = None
) -> dict[tuple[int, int], Match]:
    """(row, later row) -> the evidence that both show one lesion."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with ThreadPoolExecutor(processors()) as pool:
            progress = tqdm(pool.map(features, views), total=len(views), desc="features", unit="image", disable=None)
            found = list(progress)
        pairs = candidates(found, views, hashes, scratch)
        matches = confirm(found, views, pairs, scratch)
    finally:
        cv2.setNumThreads(threads)
    same = [index for index, match in enumerate(matches) if match and match.same]
    return {(int(pairs[index][0]), int(pairs[index][1])): cast(Match, matches[index]) for index in same}


def confirm(
    found: Sequence[Features],
    views: np.ndarray,
    pairs: np.ndarray | Sequence[tuple[int, int]],
    scratch: Path | None = None,
) -> list[Match | None]:
    """`compare` for every pair; many of them in processes, for it spends its time in the interpreter.

    What they compare lies in files that all of them map, so that memory does not grow with their number.
    """
    chunks = [pairs[start : start + CHUNK] for start in range(0, len(pairs), CHUNK)]
    workers = min(PROCESSES, processors(), len(chunks) // 4)
    if workers < 2:
        return [compare(found[first], found[second], views[first], views[second]) for first, second in pairs]
    with TemporaryDirectory(dir=scratch) as name:
        folder = Path(name)
        if isinstance(views, np.memmap) and str(views.filename).endswith(".npy"):
            (folder / "views.npy").symlink_to(Path(str(views.filename)).resolve())
        else:
            np.save(folder / "views.npy", views)
        np.save(folder / "points.npy", np.concatenate([image.points for image in found]))
        np.save(folder / "descriptors.npy", np.concatenate([image.descriptors for image in found]))
        ends = np.cumsum([len(image.points) for image in found])
        matches: list[Match | None] = []
        spawn = multiprocessing.get_context("spawn")  # a forked copy of a process that has used threads can hang
        with (
            single_threaded_children(),
            ProcessPoolExecutor(workers, spawn, _open_shared, (folder, ends)) as pool,
            tqdm(total=len(pairs), desc="comparing", unit="pair", disable=None) as bar,
        ):
            for part in pool.map(_compare_shared, chunks):
                matches += part
                bar.update(len(part))
        return matches


_shared: dict[str, np.ndarray] = {}  # in a process of `confirm`: what it maps


def _open_shared(folder: Path, ends: np.ndarray) -> None:
    cv2.setNumThreads(1)
    _shared.update(
        {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("views", "points", "descriptors")}
    )
    _shared["ends"] = ends


def _compare_shared(pairs: np.ndarray | Sequence[tuple[int, int]]) -> list[Match | None]:
    def one(image: int) -> Features:
        inside = slice(_shared["ends"][image - 1] if image else 0, _shared["ends"][image])
        return Features(np.array(_shared["points"][inside]), np.array(_shared["descriptors"][inside]))

    views = _shared["views"]
    return [compare(one(first), one(second), views[first], views[second]) for first, second in pairs]


def features(view: np.ndarray) -> Features:
    """SIFT keypoints on the lesion and close to it, or in the middle where there is none, contrast equalised;
    descriptors as rooted integers."""
    grey, mask = split_view(view)
    sift = cv2.SIFT.create(nfeatures=KEYPOINTS, contrastThreshold=0.004, edgeThreshold=20)
    found, described = sift.detectAndCompute(cv2.createCLAHE(3, (4, 4)).apply(grey), _surroundings(mask))
    if described is None:
        return Features(np.zeros((0, 2), np.float32), np.zeros((0, 128), np.uint8))
    rooted = np.sqrt(described / np.maximum(described.sum(1, keepdims=True), 1))
    return Features(np.asarray(cv2.KeyPoint.convert(found)), np.rint(255 * rooted).astype(np.uint8))


def compare(first: Features, second: Features, view: np.ndarray, other: np.ndarray) -> Match | None:
    """The evidence for one lesion; None when no similarity transform leads from one view to the other."""
    here, there = mutual_matches(first, second)
    if len(here) < MIN_KEYPOINTS:
        return None
    transform = similarity(first.points[here], second.points[there])
    if transform is None:
        return None
    moved = first.points[here] @ transform[:, :2].T + transform[:, 2]
    agreeing = int((np.linalg.norm(moved - second.points[there], axis=1) < TOLERANCE).sum())
    if agreeing < MIN_KEYPOINTS:
        return None
    grey, mask = split_view(view)
    grey_there, mask_there = split_view(other)
    mask_moved = cv2.warpAffine(mask, transform, (VIEW, VIEW), flags=cv2.INTER_NEAREST)
    union = int((mask_moved | mask_there).sum())
    overlap = int((mask_moved & mask_there).sum()) / max(union, 1)
    around = cv2.warpAffine(_surroundings(mask), transform, (VIEW, VIEW), flags=cv2.INTER_NEAREST)
    shared = (around & _surroundings(mask_there)) > 0
    if shared.sum() < 200:
        return None
    grey_moved = cv2.warpAffine(grey, transform, (VIEW, VIEW), borderMode=cv2.BORDER_REPLICATE)
    correlation = float(np.corrcoef(_fine(grey_moved)[shared], _fine(grey_there)[shared])[0, 1])
    return Match(agreeing, correlation, overlap)


def mutual_matches(first: Features, second: Features) -> tuple[np.ndarray, np.ndarray]:
    """Positions of keypoints that are each other's best match and clearly better than the second best; best first."""
    if len(first.points) < 2 or len(second.points) < 2:
        return np.zeros(0, int), np.zeros(0, int)
    likeness = first.descriptors.astype(np.float32) @ second.descriptors.astype(np.float32).T
    best = likeness.argmax(1)
    here = np.flatnonzero(likeness.argmax(0)[best] == np.arange(len(likeness)))
    there, likeness = best[here], likeness[here]
    rows = np.arange(len(here))
    nearest = 255.0**2 - likeness[rows, there]  # half the squared distance: norms are 255
    likeness[rows, there] = -np.inf
    clear = np.flatnonzero(nearest < RATIO * (255.0**2 - likeness.max(1)))
    clear = clear[np.argsort(nearest[clear], kind="stable")]
    return here[clear], there[clear]


def similarity(points: np.ndarray, others: np.ndarray) -> np.ndarray | None:
    """The rotation, scale and shift (2, 3) with which most points come close to the others.

    Every pair of the best matches proposes one: no chance is involved. Least squares over the points that agree.
    """
    here, there = (array[:, 0] + 1j * array[:, 1] for array in (points, others))
    first, second = _pairs_of(min(HYPOTHESES, len(here)))
    span = here[second] - here[first]
    usable = abs(span) > 2 * TOLERANCE
    first, second, span = first[usable], second[usable], span[usable]
    turn = (there[second] - there[first]) / span
    plausible = (abs(turn) > SCALES[0]) & (abs(turn) < SCALES[1])
    if not plausible.any():
        return None
    turn, first = turn[plausible], first[plausible]
    shift = there[first] - turn * here[first]
    apart = turn[:, None] * here
    apart += shift[:, None]
    apart -= there
    agreeing = apart.real**2 + apart.imag**2 < TOLERANCE**2
    inside = agreeing[agreeing.sum(1).argmax()]
    here, there = here.astype(np.complex128), there.astype(np.complex128)
    centred, target = here[inside] - here[inside].mean(), there[inside] - there[inside].mean()
    turn_best = (target * centred.conj()).sum() / (abs(centred) ** 2).sum()
    shift_best = there[inside].mean() - turn_best * here[inside].mean()
    return np.array(
        [[turn_best.real, -turn_best.imag, shift_best.real], [turn_best.imag, turn_best.real, shift_best.imag]]
    )


_pairs_of = cache(partial(np.triu_indices, k=1))


def _surroundings(mask: np.ndarray) -> np.ndarray:
    if not mask.any():
        return cv2.circle(np.zeros_like(mask), (VIEW // 2, VIEW // 2), CENTRE, 1, cv2.FILLED)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * MARGIN + 1, 2 * MARGIN + 1))
    return cv2.dilate(mask, disc)


def _fine(grey: np.ndarray) -> np.ndarray:
    """Detail between 1.5 and 6 pixels, evened out: colours, contrast and shading drop out, and so does the outline."""
    smooth = cv2.GaussianBlur(grey.astype(np.float32), (0, 0), 1.5)
    band = smooth - cv2.GaussianBlur(smooth, (0, 0), 6)
    return band / np.sqrt(cv2.GaussianBlur(band * band, (0, 0), 12) + 1)
