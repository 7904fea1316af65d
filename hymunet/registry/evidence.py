"""What a registered version brings along for a decision, read from its folder; the gates judge it."""

import csv
import hashlib
import io
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from hymunet.evaluation.slices import COLUMNS
from hymunet.formats import spreadsheet
from hymunet.registry import grounds
from hymunet.registry.seal import Seal

PARTS = {  # of a version's folder, and where each lies in it
    "weights": "artifacts/model/model.safetensors",
    "model": "artifacts/model/model.json",
    "metrics": "evaluation/metrics.json",
    "scores": "evaluation/per_image.csv",
    "split": f"{grounds.FOLDER}/{grounds.SPLIT}",
    "files": f"{grounds.FOLDER}/{grounds.FILES}",
    "verdict": f"{grounds.FOLDER}/{grounds.VERDICT}",
}
TESTED = "test_images_sha256"  # of metrics.json


@dataclass(frozen=True)
class Scores:
    """Per test image, in the order of ids: Dice, pixels of the true mask, pixels of it that were found.

    native: Dice at the image's own size, None where one of them is not known. rows: what slices are made by.
    """

    ids: tuple[str, ...]
    dice: np.ndarray
    truth: np.ndarray
    found: np.ndarray
    native: np.ndarray | None = None
    rows: tuple[Mapping[str, float | None], ...] = ()

    @property
    def missed(self) -> int:
        """Images with a lesion of which not one pixel was found."""
        return int(((self.truth > 0) & (self.found == 0)).sum())

    @property
    def false_alarms(self) -> np.ndarray:
        """(n,): where something was found in an image without a lesion."""
        return (self.truth == 0) & (self.dice == 0)

    def of(self, ids: tuple[str, ...]) -> "Scores":
        """The same images in another order."""
        place = {id: row for row, id in enumerate(self.ids)}
        rows = [place[id] for id in ids]
        native = None if self.native is None else self.native[rows]
        own = tuple(self.rows[row] for row in rows) if self.rows else ()
        return Scores(ids, self.dice[rows], self.truth[rows], self.found[rows], native, own)

    def at_own_size(self) -> "Scores":
        """With the Dice at the images' own size."""
        assert self.native is not None
        return replace(self, dice=self.native)


@dataclass(frozen=True)
class Cost:
    """Of one image. p95: 95th percentile of the time, in seconds. peak: of memory, in bytes, weights included; None
    where the system does not tell it.
    """

    p95: float
    peak: float | None


@dataclass(frozen=True)
class Image:
    """A row of split.csv and files.csv. part: train, validation or test; sha256: of the image's file.

    likeness: its perceptual hash; empty where the version was registered without.
    """

    group: str
    part: str
    sha256: str
    likeness: str = ""


@dataclass(frozen=True)
class Evidence:
    """Of one version; what it does not have is empty, and `missing` says why.

    model, metrics, verdict: the records. images: id -> where it was. hashes: part -> SHA-256 of the file. test_images:
    recomputed from the files' hashes, as evaluate computes it: over the test images without those that it left out.
    cost: as measured beside the other version's; unmeasured: why it was not. rescored: metrics and scores are of the
    other version's test images. seal: of all files, None where they were not looked at. changed:
    of those read, which are not as they were registered, each with what happened to it. broken: what it does not keep
    of its contract, None where that was not tried; untried: why.
    """

    version: str
    commit: str = ""
    lock: str = ""
    model: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    verdict: Mapping[str, Any] = field(default_factory=dict)
    scores: Scores | None = None
    images: Mapping[str, Image] = field(default_factory=dict)
    test_images: str = ""
    hashes: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    cost: Cost | None = None
    unmeasured: str = ""
    rescored: bool = False
    seal: Seal | None = None
    changed: tuple[str, ...] = ()
    broken: tuple[str, ...] | None = None
    untried: str = ""

    @property
    def left_out(self) -> frozenset[str]:
        """Ids of test images that could not be used, as the evaluation says."""
        return frozenset(_left_out(self.metrics))

    @property
    def tested(self) -> frozenset[str]:
        """Ids of the split's test images without those left out."""
        return frozenset(id for id, image in self.images.items() if image.part == "test") - self.left_out


def read(version: str, tags: Mapping[str, str], folder: Path) -> Evidence:
    """tags: of the version; folder: a copy of its own. Raises nothing for what is missing or damaged: that is said."""
    content: dict[str, bytes] = {}
    missing = []
    for part, place in PARTS.items():
        try:
            content[part] = (folder / place).read_bytes()
        except OSError:
            missing.append(f"no {place}")
    records: dict[str, dict[str, Any]] = {}
    for part in ("model", "metrics", "verdict"):
        records[part] = {}
        if part in content:
            try:
                found = json.loads(content[part])
                if not isinstance(found, dict):
                    raise TypeError
                records[part] = found
            except (ValueError, TypeError, RecursionError):
                missing.append(f"{PARTS[part]} is no JSON record")
    scores: Scores | None = None
    images: dict[str, Image] = {}
    test_images = ""
    try:
        scores = scores_of(content["scores"]) if "scores" in content else None
    except (KeyError, TypeError, ValueError) as error:  # TypeError: of a row that ends too early
        missing.append(f"{PARTS['scores']} is damaged: {error}")
    try:
        if "split" in content and "files" in content:
            images, test_images = _images(content["split"], content["files"], _left_out(records["metrics"]))
    except (KeyError, TypeError, ValueError) as error:  # TypeError: of a row that ends too early
        missing.append(f"{grounds.FOLDER}/ is damaged: {error}")
    return Evidence(
        version=version,
        commit=tags.get("hymunet.git_commit", ""),
        lock=tags.get("hymunet.dvc_lock_sha256", ""),
        model=records["model"],
        metrics=records["metrics"],
        verdict=records["verdict"],
        scores=scores,
        images=images,
        test_images=test_images,
        hashes={part: hashlib.sha256(bytes_).hexdigest() for part, bytes_ in content.items()},
        missing=tuple(missing),
    )


def scores_of(table: bytes) -> Scores:
    """Of per_image.csv. KeyError or ValueError for what is none."""
    rows = _rows(table)
    truth = [float(row["true_positive"]) + float(row["false_negative"]) for row in rows]
    found = [float(row["true_positive"]) for row in rows]
    dice = np.array([float(row["dice"]) for row in rows])
    ids = tuple(spreadsheet.unquoted(row["id"]) for row in rows)
    if not ids or len(set(ids)) != len(ids) or not ((dice >= 0) & (dice <= 1)).all():
        raise ValueError("no rows, an id twice, or a Dice outside 0 to 1")
    native = [_number(row.get("native_dice")) for row in rows]
    at_own_size = None if None in native else np.array(native, np.float64)
    facts = tuple({name: _number(row[name]) for name in COLUMNS.values() if name in row} for row in rows)
    return Scores(ids, dice, np.array(truth), np.array(found), at_own_size, facts)


def _left_out(metrics: Mapping[str, Any]) -> Collection[str]:
    found = metrics.get("left_out")
    return found if isinstance(found, dict) else ()


def _images(split: bytes, files: bytes, left_out: Collection[str]) -> tuple[dict[str, Image], str]:
    """And the hash of the images that were tested, over ids and files, as hymunet.evaluation defines it."""
    hashes = {row["id"]: row for row in _rows(files)}
    images = {
        row["id"]: Image(row["group"], row["split"], own["sha256_image"], own.get(grounds.LIKENESS) or "")
        for row in _rows(split)
        for own in (hashes[row["id"]],)
    }
    tested = sorted(
        (id, *(hashes[id][name] for name in grounds.HASHES))
        for id, image in images.items()
        if image.part == "test" and id not in left_out
    )
    return images, hashlib.sha256(json.dumps(tested).encode()).hexdigest()


def _number(text: str | None) -> float | None:
    return float(text) if text else None


def _rows(table: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(table.decode("utf-8"), newline="")))
