"""One image's result files, and those of them all: where they go and what they hold."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from hymunet import atomic, evidence
from hymunet.evaluation.pictures import overlay
from hymunet.places import require_folder
from hymunet.prediction.model import Found
from hymunet.prediction.ours import document, png, written_by_us
from hymunet.prediction.regions import regions, runs
from hymunet.prediction.sources import SHOWN, Entry
from hymunet.prediction.table import NAME, Table, check

ENDINGS = {
    "mask": "_mask.png",  # 0 and 255
    "overlay": "_overlay.png",  # the contour over the image
    "probability": "_probability.png",  # times 255
    "contours": "_contours.json",
}
COCO, COCO_FILE = "coco", "predictions.coco.json"
KINDS = (*ENDINGS, COCO)


def kinds(text: str) -> tuple[str, ...]:
    """`mask,coco` -> what is to be written for each image; ValueError for an unknown kind."""
    named = [name.strip() for name in text.split(",")]
    if unknown := [name for name in named if name not in KINDS]:
        raise ValueError(f"--save {text}: {unknown[0]!r} is none of {', '.join(KINDS)}")
    wanted = {"contours" if name == COCO else name for name in named}  # COCO's file is put together from contours
    return (*(name for name in ENDINGS if name in wanted), *([COCO] if COCO in named else []))


def targets(name: str, output: Path, wanted: Sequence[str]) -> dict[str, Path]:
    return {kind: output / f"{name}{ENDINGS[kind]}" for kind in wanted if kind in ENDINGS}


def nameable(entries: Iterable[Entry], output: Path, wanted: Sequence[str]) -> list[Entry]:
    """The entries; one whose results' names are longer than the output's file system takes has that as its problem."""
    most = os.pathconf(next(path for path in (output, *output.absolute().parents) if path.exists()), "PC_NAME_MAX")
    return [
        _nameable(one, max(map(_bytes, targets(one.name, output, wanted).values()), default=0), most) for one in entries
    ]


def _nameable(entry: Entry, longest: int, most: int) -> Entry:
    if entry.problem or longest <= most:
        return entry
    reason = f"a result's name would be {longest} bytes long, {most} are allowed; rename it"
    return replace(entry, problem=f"{entry.shown}: {reason}")


def _bytes(path: Path) -> int:
    return len(os.fsencode(path.name))


def require_free(entries: Iterable[Entry], output: Path, wanted: Sequence[str]) -> None:
    """Raises ValueError, before any work, where a file that is not ours would be replaced, or one be written elsewhere.

    A linked folder below `output` leads elsewhere, unless it stays in it.
    """
    require_folder(output)
    if (table := output / NAME).exists():
        check(table)
    paths = [path for one in entries if not one.problem for path in targets(one.name, output, wanted).values()]
    if COCO in wanted:
        paths.append(output / COCO_FILE)
    foreign = [str(path) for path in paths if path.exists() and not written_by_us(path)]
    _refuse(foreign, "there already and not written by this command; name another folder with --output")
    inside = output.resolve()
    _refuse(
        [str(folder) for folder in {path.parent for path in paths} if not folder.resolve().is_relative_to(inside)],
        f"a link that leads out of {output}; name another folder with --output",
    )


def write(
    name: str, shown: str, image: np.ndarray, found: Found, output: Path, wanted: Sequence[str]
) -> dict[str, Any]:
    """One image's files, each whole; returns its row but for time, hash and model. image: uint8 RGB (H, W, 3)."""
    height, width = found.mask.shape
    area = int(np.count_nonzero(found.mask))
    facts = {
        "image": shown,
        "width": width,
        "height": height,
        "area_pixels": area,
        "area_fraction": area / (height * width),
        "confidence": round(found.confidence, 4),
    }
    if found.agreement is not None:
        facts["agreement"] = round(found.agreement, 4)
    for kind, path in targets(name, output, wanted).items():
        if kind == "mask":
            content: bytes | str = png(255 * found.mask)
        elif kind == "overlay":
            content = png(overlay(image, found.mask))
        elif kind == "probability":
            content = png(np.rint(255 * found.probability).astype(np.uint8))
        else:
            content = document({**facts, "threshold": found.threshold, "regions": regions(found.mask)})
        atomic.write(path, content)
    components = cv2.connectedComponents(found.mask, connectivity=8)[0] - 1
    fraction = f"{facts['area_fraction']:.6f}"
    return {"agreement": "", **facts, "name": name, "area_fraction": fraction, "components": components}


def write_coco(table: Table, output: Path) -> None:
    """predictions.coco.json from the contours of every image of the table; regions as run lengths, which are exact."""
    paths = [output / f"{row['name']}{ENDINGS['contours']}" for row in table.rows()]
    numbered = [(number, path) for number, path in enumerate(paths, 1) if written_by_us(path)]
    partial = output / f".{COCO_FILE}.tmp"
    try:
        with partial.open("w", encoding="utf-8") as file:
            head = document({"categories": [{"id": 1, "name": "lesion"}]}).rstrip()[:-1]
            file.write(f'{head}, "images": [')
            file.writelines(_listed(_coco_image(number, path) for number, path in numbered))
            file.write('], "annotations": [')
            found = (one for number, path in numbered for one in _coco_regions(number, path))
            file.writelines(_listed({"id": count, **one} for count, one in enumerate(found, 1)))
            file.write("]}\n")
            file.flush()
            os.fsync(file.fileno())
        partial.replace(output / COCO_FILE)
    finally:
        partial.unlink(missing_ok=True)
    atomic.sync(output)


def _coco_image(number: int, path: Path) -> dict[str, Any]:
    facts = _facts(path)
    return {"id": number, "file_name": facts["image"], "width": facts["width"], "height": facts["height"]}


def _coco_regions(number: int, path: Path) -> Iterator[dict[str, Any]]:
    facts = _facts(path)
    shape = facts["height"], facts["width"]
    for region in facts["regions"]:
        yield {
            "image_id": number,
            "category_id": 1,
            "bbox": region["box"],
            "area": region["area_pixels"],
            "iscrowd": 0,
            "segmentation": {"size": shape, "counts": runs(region, shape)},
            "score": facts["confidence"],
        }


def _listed(items: Iterable[dict[str, Any]]) -> Iterator[str]:
    """The inside of a JSON list, one item a line."""
    for number, item in enumerate(items):
        yield f"{',' * (number > 0)}\n{json.dumps(item)}"


def _facts(path: Path) -> dict[str, Any]:
    return evidence.read(path, "remove it, and it is made again")


def _refuse(names: list[str], reason: str) -> None:
    if names:
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        raise ValueError(f"{', '.join(sorted(names)[:SHOWN])}{more}: {reason}")
