"""The images of a study's sets: made by the pipeline's own steps, once, or taken from where they already are.

Under the study's workspace each set has a folder laid out as the pipeline's `data/`: raw/, prepared/, split/.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hymunet import atomic, closure, evidence, params
from hymunet.shortlist import shortlist
from hymunet.study import locks
from hymunet.study.folds import fold_splits
from hymunet.study.plan import Cell, Plan

WAIT = 86400.0  # seconds, for another run that makes them
MADE = "made.json"  # what a set's arrays and split were made from
STEPS = ("hymunet.data.prepare.prepare", "hymunet.data.divide.divide")


@dataclass(frozen=True)
class Data:
    """A set's prepared arrays and one split of them."""

    prepared: Path
    split: Path

    def hashes(self) -> dict[str, str] | None:
        """By which a model names them, too; None where they are not here."""
        record = self.prepared / "prepare.json"
        if not record.is_file() or not self.split.is_file():
            return None
        data = evidence.read(record, "run the prepare step again")["sha256"]
        return {"data_sha256": data, "split_sha256": evidence.sha256(self.split)}


@dataclass(frozen=True)
class Places:
    """work: the study's workspace. given: folders as the pipeline's `data/`, by set, in place of those made here."""

    work: Path
    given: Mapping[str, Path]

    def folder(self, images: str) -> Path:
        return self.given.get(images, self.work / "data" / images)

    def of(self, cell: Cell) -> Data:
        folder = self.folder(cell.images)
        split = folder / "split/split.csv"
        if cell.fold is not None:
            split = self.work / "folds" / cell.images / f"fold-{cell.fold}.csv"
        return Data(folder / "prepared", split)


def make(plan: Plan, images: str, places: Places) -> None:
    """A set's arrays and splits, unless they are there, made from the same parameters, archives and code.

    Raises ValueError for what a user can get wrong, and for data that fail the pipeline's checks.
    """
    content, folder = plan.of_images(images), places.folder(images)
    if images not in places.given:
        with locks.lock(folder, WAIT):
            _make(content, folder)
    elif Data(folder / "prepared", folder / "split/split.csv").hashes() is None:
        raise ValueError(
            f"{folder}: given for {images}, and holds no prepared/ and split/split.csv; make it: dvc repro validate"
        )
    if folds := plan.study.sets[images].folds:
        from hymunet.data.prepare.manifest import read_manifest

        text = (folder / "split/split.csv").read_text(encoding="utf-8")
        empty = {row["id"] for row in read_manifest(folder / "prepared/manifest.parquet") if row["mask_area"] == 0}
        for fold, split in enumerate(fold_splits(text, folds, content.split.seed, empty)):
            target = places.work / "folds" / images / f"fold-{fold}.csv"
            if not target.is_file() or target.read_text(encoding="utf-8") != split:
                atomic.write(target, split)


def _make(content: params.Params, folder: Path) -> None:
    source = content.data.chosen.model_dump()
    asked = {"source": content.data.source, **source}
    record = folder / MADE
    before = _made(record)
    if content.data.source == "folder" or before.get("asked") != asked:
        from hymunet.data.acquire.download import download

        download(content.data, folder / "raw")
    made = {
        "asked": asked,
        "archives": evidence.read(folder / "raw/source.json", "remove the folder beside it")["archives"],
        "prepare": content.prepare.model_dump(),
        "split": content.split.model_dump(),
        "validate": content.validate_.model_dump(),
        "code_sha256": closure.sha256(closure.files(*STEPS)),
    }
    if before == made:
        return
    from hymunet.data.check.expectations import validate
    from hymunet.data.divide.divide import divide
    from hymunet.data.prepare.prepare import prepare

    record.unlink(missing_ok=True)
    section = content.prepare
    prepare(
        folder / "raw",
        folder / "prepared",
        section.image_size,
        section.on_bad_pair,
        max_dropped=section.max_dropped,
        masks_on=section.masks_on,
        max_without_lesion=section.max_without_lesion,
        own=content.data.own_folder,
    )
    divide(content.split, folder / "prepared", folder / "split")
    (folder / "validation").mkdir(exist_ok=True)
    if failures := validate(content.validate_, folder / "prepared", folder / "split", folder / "validation"):
        failed = shortlist(list(map(str, failures)))
        raise ValueError(f"{content.data.source}: the data checks failed; {folder / 'validation/report.html'}:{failed}")
    atomic.write(record, json.dumps(made, indent=2) + "\n")


def _made(record: Path) -> dict[str, Any]:
    return evidence.read(record, f"remove {record}") if record.is_file() else {}
