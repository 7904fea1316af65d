"""Which images are worth comparing: a bounded number for each, by three cheap signatures.

Nothing here is a table of all images by all images: memory grows with their number.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np

from hymunet.data.prepare.decode import split_view

WORD_SIZE, TRAINING = 3_500, 50_000  # descriptors in a visual word, and in the sample that words are made from
VOTES = 20  # keypoints that a keypoint votes for
NEIGHBOURS = {"votes": 60, "structure": 40, "hash": 5}  # candidates that an image proposes, by signature
BLOCK = 1024  # rows of a comparison held in memory at a time, at most
HELD = 2**25  # values of such a comparison, at most


@dataclass(frozen=True)
class Features:
    points: np.ndarray  # (n, 2) float32, pixels of the view
    descriptors: np.ndarray  # (n, 128) uint8, all of about equal norm


def candidates(
    found: Sequence[Features], views: np.ndarray, hashes: Sequence[str], scratch: Path | None = None
) -> np.ndarray:
    """(n, 2): pairs of rows worth comparing, in order: each image's nearest by votes, structure and perceptual hash.

    scratch: the folder for what is laid aside meanwhile.
    """
    codes = np.array([[int(text, 16)] for text in hashes], dtype=np.uint64).view(np.uint8)
    bits = np.unpackbits(codes, axis=1).astype(np.float32) - 0.5
    structure = np.stack([_structure(view) for view in views])
    with TemporaryDirectory(dir=scratch) as folder:
        counted = Votes(len(found), Path(folder))
        counted.count(found)
        likenesses: dict[str, Callable[[slice], np.ndarray]] = {
            "votes": lambda rows: counted.rows(rows).astype(np.float32),
            "structure": lambda rows: structure[rows] @ structure.T,
            "hash": lambda rows: bits[rows] @ bits.T,
        }
        nearest = [nearest_rows(len(views), likeness, NEIGHBOURS[name]) for name, likeness in likenesses.items()]
    return np.unique(np.sort(np.concatenate(nearest), axis=1), axis=0)


class Votes:
    """How strongly the keypoints of one image speak for another: whole numbers, symmetric; rows on demand.

    A keypoint votes for the VOTES keypoints of other images that are nearest to it, each vote as heavy as it is nearer
    than the next one beyond them: common texture is near to all alike and weighs little (McCann and Lowe, Local Naive
    Bayes Nearest Neighbor, CVPR 2012). Nearest of those in the same visual word, so that the cost grows with the number
    of images and not with its square. Weights are whole numbers, so that their sums do not depend on the order.

    Votes are laid aside in a file for each block of rows, ten bytes each, and added up when the block is asked for.
    """

    def __init__(self, images: int, folder: Path) -> None:
        self.images, self.folder, self.height = images, folder, block_height(images)
        self._waiting: list[np.ndarray] = []

    def count(self, found: Sequence[Features]) -> None:
        described = np.concatenate([image.descriptors for image in found])
        owner = np.repeat(np.arange(self.images), [len(image.points) for image in found])
        for members in _by_word(_words(described)):
            if len(members) <= VOTES:
                continue
            owners, inside = owner[members], described[members].astype(np.float32)
            for start in range(0, len(members), BLOCK):
                block = slice(start, start + BLOCK)
                likeness = inside[block] @ inside.T
                likeness[owners[block, None] == owners] = -1
                nearest = np.argpartition(-likeness, VOTES, axis=1)[:, : VOTES + 1]
                near = np.take_along_axis(likeness, nearest, axis=1)
                lead = (near - near.min(axis=1, keepdims=True)).astype(np.uint32)
                voters, elected = np.broadcast_arrays(owners[block, None], owners[nearest])
                self._lay_aside(voters.ravel(), elected.ravel(), lead.ravel())

    def rows(self, rows: slice) -> np.ndarray:
        """int32 (rows, images); `rows` begins where a block does."""
        start, stop, _ = rows.indices(self.images)
        assert (start % self.height, stop) == (0, min(start + self.height, self.images)), "rows are had by blocks"
        self._write()
        path = self._file(start // self.height)
        votes = np.fromfile(path, VOTE) if path.exists() else np.zeros(0, VOTE)
        places = votes["row"].astype(np.int64) * self.images + votes["column"]
        total = np.bincount(places, votes["weight"], minlength=(stop - start) * self.images)  # exact: whole numbers
        return total.astype(np.int32).reshape(stop - start, self.images)

    def _lay_aside(self, voters: np.ndarray, elected: np.ndarray, weights: np.ndarray) -> None:
        heavy = weights > 0
        votes = np.zeros(2 * int(heavy.sum()), VOTE_OF)
        votes["image"] = np.concatenate([voters[heavy], elected[heavy]])
        votes["column"] = np.concatenate([elected[heavy], voters[heavy]])
        votes["weight"] = np.concatenate([weights[heavy]] * 2)
        self._waiting.append(votes)
        if sum(map(len, self._waiting)) > WAITING:
            self._write()

    def _write(self) -> None:
        """What waits, into the files of its blocks."""
        waiting, self._waiting = np.concatenate([np.zeros(0, VOTE_OF), *self._waiting]), []
        waiting = waiting[np.argsort(waiting["image"], kind="stable")]
        votes = np.zeros(len(waiting), VOTE)
        votes["row"], votes["column"] = waiting["image"] % self.height, waiting["column"]
        votes["weight"] = waiting["weight"]
        blocks, starts = np.unique(waiting["image"] // self.height, return_index=True)
        for block, part in zip(blocks, np.split(votes, starts[1:]), strict=False):
            with self._file(block).open("ab") as file:
                part.tofile(file)

    def _file(self, block: int) -> Path:
        return self.folder / f"votes{block}"


WAITING = 2**22  # votes in memory before they are written
VOTE_OF = np.dtype([("image", np.uint32), ("column", np.uint32), ("weight", np.uint32)])
VOTE = np.dtype([("row", np.uint16), ("column", np.uint32), ("weight", np.uint32)])


def block_height(images: int) -> int:
    """How many rows of a comparison with every image are held at a time."""
    return max(1, min(BLOCK, HELD // max(images, 1)))


def _by_word(words: np.ndarray) -> Iterator[np.ndarray]:
    """The positions of each word's descriptors, ascending."""
    order = np.argsort(words, kind="stable")
    starts = np.flatnonzero(np.diff(words[order])) + 1
    yield from np.split(order, starts)


def _words(described: np.ndarray) -> np.ndarray:
    """The visual word of each descriptor: k-means in integers, from evenly spaced descriptors, about WORD_SIZE each."""
    count = max(1, len(described) // WORD_SIZE)
    sample = described[:: max(1, len(described) // TRAINING)]
    sample = sample.astype(np.float32)
    centroids = sample[:: max(1, len(sample) // count)][:count].copy()
    for _ in range(5):
        near = _assign(sample, centroids)
        for index in range(len(centroids)):
            members = sample[near == index]
            if len(members):
                centroids[index] = np.rint(members.sum(0, dtype=np.float64) / len(members))
    return _assign(described, centroids)


def _assign(described: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    norms = (centroids**2).sum(1)
    blocks = range(0, len(described), 8 * BLOCK)
    parts = (described[start : start + 8 * BLOCK].astype(np.float32) for start in blocks)
    nearest = [(2 * part @ centroids.T - norms).argmax(1).astype(np.int32) for part in parts]
    return np.concatenate(nearest) if nearest else np.zeros(0, np.int32)


def nearest_rows(images: int, likeness: Callable[[slice], np.ndarray], count: int) -> np.ndarray:
    """(n, 2): every row with each of the `count` other rows most like it; likeness: rows -> float (rows, images)."""
    pairs = [np.zeros((0, 2), int)]
    count = min(count, images - 1)
    height = block_height(images)
    for start in range(0, images if count else 0, height):
        block = likeness(slice(start, start + height))
        rows = np.arange(len(block))
        block[rows, start + rows] = -np.inf
        bound = np.partition(block, -count, axis=1)[:, -count, None]
        above, equal = block > bound, block == bound
        room = count - above.sum(1, keepdims=True)
        chosen = above | (equal & (equal.cumsum(1) <= room))  # equals go to the earlier row
        pairs.append(np.argwhere(chosen) + np.array([start, 0]))
    return np.concatenate(pairs)


def _structure(view: np.ndarray) -> np.ndarray:
    """The view's grey at 32×32, evened out locally, as a unit vector."""
    grey = split_view(view)[0].astype(np.float32)
    centred = grey - cv2.GaussianBlur(grey, (0, 0), 18)
    even = centred / np.sqrt(cv2.GaussianBlur(centred * centred, (0, 0), 18) + 4)
    small = cv2.resize(even, (32, 32), interpolation=cv2.INTER_AREA).ravel()
    small -= small.mean()
    return small / max(float(np.linalg.norm(small)), 1e-9)
