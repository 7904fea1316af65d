"""The prepared arrays and their split, opened for a purpose: training never sees a test image."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hymunet.data import splits


class Prepared:
    """`images.npy` (N, S, S, 3) and `masks.npy` (N, S, S), uint8, memory-mapped; masks hold 0 and 1.

    Raises ValueError naming the file when one is missing, truncated or of another shape or type: preparing again mends
    it. A file that may not be read, or a folder in its place, stays an OSError.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.images = _open(self.folder / "images.npy", 4)
        self.masks = _open(self.folder / "masks.npy", 3)
        if self.masks.shape != self.images.shape[:3] or self.images.shape[3] != 3:
            raise ValueError(
                f"{folder}: images {self.images.shape} and masks {self.masks.shape} do not belong together"
            )
        if len(self.images) == 0:
            raise ValueError(f"{folder}: no images in it; run the prepare step on a source that has some")
        self.image_size = int(self.images.shape[1])

    def __len__(self) -> int:
        return len(self.images)

    def description(self) -> dict[str, Any]:
        """prepare.json: counts, drops, hashes."""
        return _read_json(self.folder / "prepare.json")

    def split(self, path: str | Path, needed: Sequence[str] = splits.NAMES) -> dict[str, np.ndarray]:
        """split.csv -> the rows (int64, ascending) of each split. ValueError where one of those needed is empty."""
        members = _members(self, path)
        if empty := [name for name in needed if not members[name]]:
            raise ValueError(f"{path}: no image in {', '.join(empty)}; add images or change split.fractions")
        return {name: np.array([row for row, _ in members[name]], dtype=np.int64) for name in splits.NAMES}

    def ids(self, path: str | Path) -> list[str]:
        """The images' names, one per row; split.csv and the arrays are both sorted by id."""
        return [name for _, name in sorted(pair for members in _members(self, path).values() for pair in members)]


def require_prepared(folder: Path, split: Path | None = None) -> None:
    """Raises ValueError for what Prepared and, where one is named, its split cannot be opened by."""
    prepared = Prepared(folder)
    if split is not None:
        prepared.split(split, needed=())


class TrainingData:
    """What training may see: the rows of the training and the validation split, by position within the split.

    Asking for the test split is an error. ValueError where no training image shows a lesion.
    """

    def __init__(self, folder: str | Path, split_file: str | Path) -> None:
        prepared = Prepared(folder)
        rows, names = prepared.split(split_file), prepared.ids(split_file)
        self.image_size = prepared.image_size
        self._subsets = {
            name: Subset(prepared.images, prepared.masks, rows[name], [names[row] for row in rows[name]])
            for name in splits.OPEN_TO_TRAINING
        }
        if not any(prepared.masks[row].any() for row in rows["train"]):
            raise ValueError(f"{split_file}: no training image shows a lesion, all masks are empty; split otherwise")

    def subset(self, name: str) -> "Subset":
        if name not in splits.OPEN_TO_TRAINING:
            raise ValueError(f"the {name} split is closed to training; open: {', '.join(splits.OPEN_TO_TRAINING)}")
        return self._subsets[name]


class Subset:
    """One split's images and masks by position 0..len-1."""

    def __init__(self, images: np.ndarray, masks: np.ndarray, rows: np.ndarray, ids: list[str]) -> None:
        self._images, self._masks, self._rows, self.ids = images, masks, rows, ids

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, position: int) -> tuple[np.ndarray, np.ndarray]:
        row = self._rows[position]
        return self._images[row], self._masks[row]

    @property
    def nbytes(self) -> int:
        """Of what `arrays` returns."""
        return len(self) * (self._images[:1].nbytes + self._masks[:1].nbytes)

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """All of the split, copied into memory: images (n, S, S, 3), masks (n, S, S)."""
        return self._images[self._rows], self._masks[self._rows]


def _open(path: Path, dimensions: int) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; run the prepare step first, or name its folder") from None
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path}: not a readable .npy array ({error}); run the prepare step again") from None
    if not isinstance(array, np.ndarray) or array.dtype != np.uint8 or array.ndim != dimensions:
        found = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else "an archive of arrays"
        raise ValueError(
            f"{path}: expected uint8 in {dimensions} dimensions, found {found}; run the prepare step again"
        )
    return array


def _members(prepared: Prepared, path: str | Path) -> dict[str, list[tuple[int, str]]]:
    members: dict[str, list[tuple[int, str]]] = {name: [] for name in splits.NAMES}
    try:
        with Path(path).open(newline="", encoding="utf-8") as file:
            for row, record in enumerate(csv.DictReader(file)):
                members[record["split"]].append((row, record["id"]))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; run the split step first, or name its file") from None
    except KeyError as error:
        raise ValueError(
            f"{path}: expected columns id,group,split with split in {splits.NAMES}, found {error}"
        ) from None
    found = sum(map(len, members.values()))
    if found != len(prepared):
        raise ValueError(
            f"{path}: lists {found} images, {prepared.folder} holds {len(prepared)}; run the split step again"
        )
    ids = [name for _, name in sorted(pair for pairs in members.values() for pair in pairs)]
    if ids != sorted(set(ids)):
        raise ValueError(f"{path}: not sorted by id, or an id twice; run the split step again")
    return members


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; run the prepare step first") from None
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON: {error}") from None
