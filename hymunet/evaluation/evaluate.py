"""A model on test images: scores with confidence intervals, a row per image, pictures and a page."""

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from hymunet import atomic, closure, evidence, params
from hymunet.data.feed.dataset import Prepared
from hymunet.data.prepare.groups import GROUPS
from hymunet.data.prepare.manifest import read_manifest
from hymunet.data.splits import Scored
from hymunet.evaluation import calibration, confidence, familiar, pictures, record, slices
from hymunet.evaluation.cases import Cases, GroupedBy, PreparedCases, hash_of_images
from hymunet.evaluation.report.page import page, picture_side
from hymunet.evaluation.score import Results, probabilities, score
from hymunet.evaluation.shifts import shifts
from hymunet.evaluation.threshold import best_threshold
from hymunet.evidence import METRICS
from hymunet.inference import Segmenter
from hymunet.models import catalogue
from hymunet.shortlist import shortlist

PANEL_COLUMNS = 4
Row = dict[str, Any]


@dataclass(frozen=True)
class Origin:
    """Where a test comes from. made_from: hashes for the record; description: of the images, in words and numbers.

    curves: of the training; columns: own ones by name, in the order of the cases; on_bad: stop or drop.
    remedy: for those where they stop. trained_on: what `familiar.ends` says of the training images.
    """

    made_from: dict[str, Any]
    description: dict[str, Any]
    curves: bytes | None = None
    columns: Path | None = None
    on_bad: str = "stop"
    remedy: str = "mend them, or leave them out (--on-bad-pair drop)"
    trained_on: dict[str, Any] | None = None


def evaluate(
    model_folder: Path,
    prepared_folder: Path,
    split_file: Path,
    training: Path,
    output: Path,
    section: params.Evaluate,
    part: Scored = "test",
) -> dict[str, Any]:
    """Writes `metrics.json`, `per_image.csv`, `panel.png` and `report.html` into `output`; returns the metrics.

    training: the training step's reports; its `curves.png` goes into the page where there is one. part: of the split,
    that is scored; metrics.json names it where it is no test, and registration refuses it.
    Raises ValueError when model, arrays and split do not belong together.
    """
    segmenter = Segmenter.load(model_folder, flips=section.flips, largest_region=section.largest_region)
    prepared = Prepared(prepared_folder)
    of_size(segmenter, prepared, model_folder)
    parts = prepared_cases(prepared, split_file)
    if parts["train"].ids or parts["validation"].ids:
        made_from = belong_together(model_folder, segmenter, prepared, split_file)
    else:  # a set of test images alone
        made_from = {**weights_and_code(segmenter), **data_and_split(segmenter, prepared, split_file)}
    segmenter = settled(segmenter, parts["validation"], section)
    if part != "test":
        made_from["part"] = part
    curves = training / "curves.png"
    origin = Origin(
        made_from,
        prepared.description(),
        curves.read_bytes() if curves.is_file() else None,
        trained_on=parts["train"].familiar(),
    )
    return examine(segmenter, parts[part], origin, output, section)


def examine(
    segmenter: Segmenter, cases: Cases, origin: Origin, output: Path, section: params.Evaluate
) -> dict[str, Any]:
    """Scores a settled segmenter on cases and writes everything; returns the metrics."""
    _repeatable()
    found = score(segmenter, cases, side=picture_side(len(cases.ids)))
    _judge(found, len(cases.ids), origin)
    rows = found.rows
    kept = {id: position for position, id in enumerate(cases.ids) if id not in found.problems}
    groups = None if cases.groups is None else [cases.groups[position] for position in kept.values()]
    own = slices.read_columns(origin.columns, list(kept)) if origin.columns else {}
    for row in rows:
        row["source"] = cases.source
    members = slices.members(rows, own)
    table = record.to_csv(rows, groups)
    draws = (section.bootstrap, section.seed)
    dice, iou, sure = ([row[name] for row in rows] for name in ("dice", "iou", "confidence"))
    result = {
        "schema": record.SCHEMA,
        "test": record.summarise(rows, *draws, groups),
        "native": record.summarise(rows, *draws, groups, "native_"),
        "calibration": {"whole": calibration.summary(found.whole), "band": calibration.summary(found.band)}
        if found.band.pixels
        else {"whole": calibration.summary(found.whole), "band": None},
        "confidence": confidence.selective(sure, dice, iou),
        "slices": slices.scores(rows, members, *draws, groups),
        "shifts": shifts(segmenter, cases, rows, *draws, groups) if section.shifts else None,
        "threshold": segmenter.threshold,
        "temperature": segmenter.temperature,
        "flips": segmenter.flips,
        "largest_region": segmenter.largest_region,
        "image_size": segmenter.image_size,
        "source": cases.source,
        "grouped_by": cases.grouped_by,
        "groups": None if groups is None else len(set(groups)),
        "left_out": found.problems,
        familiar.KEY: origin.trained_on or segmenter.info.get(familiar.KEY),
        "test_images_sha256": hash_of_images(rows),
        "per_image_sha256": hashlib.sha256(table.encode("utf-8")).hexdigest(),
        **origin.made_from,
    }
    panel = _panel(segmenter, cases, rows, kept)
    text = page(
        result,
        rows,
        found.pictures,
        members,
        info=dict(segmenter.info),
        parameters=sum(parameter.numel() for parameter in segmenter.model.parameters()),
        dataset=origin.description,
        curves=origin.curves,
    )
    atomic.write(output / record.TABLE, table)
    atomic.write(output / "panel.png", panel)
    atomic.write(output / "report.html", text)
    atomic.write(output / METRICS, record.to_json(result))
    return result


def prepared_cases(prepared: Prepared, split_file: Path) -> dict[str, PreparedCases]:
    """The cases of each split; only the test has some for sure.

    Raises ValueError unless arrays, manifest and split name the same images.
    """
    splits, ids = prepared.split(split_file, needed=("test",)), prepared.ids(split_file)
    manifest = read_manifest(prepared.folder / "manifest.parquet")
    if [row["id"] for row in manifest] != ids:
        raise ValueError(f"{split_file} and {prepared.folder}/manifest.parquet name other images; split again")
    with split_file.open(newline="", encoding="utf-8") as file:
        groups = [row["group"] for row in csv.DictReader(file)]
    listed = (prepared.folder / GROUPS).is_file()
    by: GroupedBy = "near-duplicates and groups.csv" if listed else "near-duplicates"
    return {name: PreparedCases(prepared, rows, manifest, groups, by) for name, rows in splits.items()}


def settled(segmenter: Segmenter, validation: Cases, section: params.Evaluate) -> Segmenter:
    """The segmenter with the temperature and the threshold of the parameters, or those that the validation asks for."""
    _repeatable()
    asked = [name for name in ("temperature", "threshold") if getattr(section, name) == "validation"]
    if asked and not len(validation.ids):
        raise ValueError(f"evaluate.{asked[0]} is to be chosen on validation images, and there are none; give a number")
    temperature = section.temperature
    if temperature == "validation":
        temperature = calibrated(replace(segmenter, temperature=1.0), validation)
    segmenter = replace(segmenter, temperature=float(temperature))
    if section.threshold != "validation":
        return replace(segmenter, threshold=float(section.threshold))
    seen = probabilities(segmenter, validation, "validation images")
    chosen = best_threshold(((found, case.truth) for case, found in seen), segmenter.largest_region)
    return replace(segmenter, threshold=chosen)


def calibrated(segmenter: Segmenter, validation: Cases) -> float:
    """The temperature that fits the validation images best."""
    found = calibration.Histogram()
    for case, probability in probabilities(segmenter, validation, "validation images"):
        found.add(calibration.histogram(probability, case.truth))
    return calibration.best_temperature(found)


def belong_together(model_folder: Path, segmenter: Segmenter, prepared: Prepared, split_file: Path) -> dict[str, str]:
    """What the scores are made from: hashes of weights, images, split and code.

    Raises ValueError unless the model was trained on these images by this split: under another it may have been
    trained on what is now a test image.
    """
    data, split = _data_sha256(prepared), evidence.sha256(split_file)
    remedy = "evaluate it on those that it was trained with, or train again"
    description, info = model_folder / "model.json", dict(segmenter.info)
    evidence.require(description, info, "data_sha256", prepared.folder, data, remedy)
    evidence.require(description, info, "split_sha256", split_file, split, remedy)
    return {**weights_and_code(segmenter), "data_sha256": data, "split_sha256": split}


def data_and_split(segmenter: Segmenter, prepared: Prepared, split_file: Path | None) -> dict[str, str]:
    """Hashes of images that are none of the model's own, or, with its own split, of those.

    Raises ValueError where the model was trained on this set and the split is not the one that it was trained by.
    """
    data = _data_sha256(prepared)
    split = {"split_sha256": evidence.sha256(split_file)} if split_file else {}
    info = segmenter.info
    if info.get("data_sha256") == data and info.get("split_sha256") != split.get("split_sha256"):
        raise ValueError(
            f"{prepared.folder}: the model was trained on part of this very set; what it has not seen is the test part "
            f"of its own split {str(info.get('split_sha256'))[:12]}, and {split_file or 'no split'} is not that one"
        )
    return {"data_sha256": data, **split}


def _data_sha256(prepared: Prepared) -> str:
    """Of the arrays. ValueError unless they are those that prepare recorded."""
    data, said = evidence.prepared_sha256(prepared.folder), {"data_sha256": prepared.description()["sha256"]}
    record_of_data = prepared.folder / "prepare.json"
    evidence.require(record_of_data, said, "data_sha256", prepared.folder, data, "run the prepare step again")
    return data


def weights_and_code(segmenter: Segmenter) -> dict[str, str]:
    info = segmenter.info
    modules = map(catalogue.module, info.get("architectures", [info["model"]["name"]]))
    own = [module for module in modules if module.startswith("hymunet.")]  # another package's is not of our code
    return {
        "weights_sha256": info["weights_sha256"],
        "code_sha256": closure.sha256(closure.files(__name__, *own)),
    }


def of_size(segmenter: Segmenter, prepared: Prepared, model: Path | str) -> None:
    size = segmenter.image_size
    if prepared.image_size != size:
        raise ValueError(
            f"{model}: the model was trained at {size} pixels, {prepared.folder} holds images of "
            f"{prepared.image_size}; train again or prepare at the model's size"
        )


def _repeatable() -> None:
    torch.set_deterministic_debug_mode("warn")
    torch.backends.cudnn.benchmark = False


def _judge(found: Results, count: int, origin: Origin) -> None:
    listed = shortlist([f"{id}: {reason}" for id, reason in found.problems.items()])
    if not found.rows:
        raise ValueError(f"none of {count:,} images can be evaluated:{listed}")
    if found.problems and origin.on_bad == "stop":
        raise ValueError(f"{len(found.problems):,} of {count:,} images cannot be evaluated; {origin.remedy}:{listed}")


def _panel(segmenter: Segmenter, cases: Cases, rows: Sequence[Row], kept: dict[str, int]) -> bytes:
    """The best, the median and the worst cases."""
    order = sorted(rows, key=lambda row: (row["dice"], row["id"]))
    columns = min(PANEL_COLUMNS, len(order))
    middle = (len(order) - columns) // 2
    chosen = {"best": order[::-1][:columns], "median": order[middle : middle + columns], "worst": order[:columns]}

    def drawn(row: Row) -> pictures.Case:
        case = cases[kept[row["id"]]]
        mask = segmenter.mask(segmenter.probabilities(case.image[None])[0], case.truth.shape)
        return pictures.Case(case.id, case.image, case.truth > 0, mask > 0, row)

    return pictures.panel({name: [drawn(row) for row in part] for name, part in chosen.items()})
