"""The model on the test images: metrics with confidence intervals, a row per image, pictures and a page."""

import csv
import hashlib
import io
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from hymunet import atomic, closure, evidence, metrics, params
from hymunet.data.feed.dataset import Prepared
from hymunet.data.prepare.manifest import read_manifest
from hymunet.evaluation import pictures, report
from hymunet.evaluation.statistics import bootstrap
from hymunet.evaluation.threshold import best_threshold
from hymunet.inference import METRICS, Segmenter
from hymunet.models import catalogue

PANEL_COLUMNS = 4
Row = dict[str, Any]


def evaluate(
    model_folder: Path, prepared_folder: Path, split_file: Path, training: Path, output: Path, section: params.Evaluate
) -> dict[str, Any]:
    """Writes `metrics.json`, `per_image.csv`, `panel.png` and `report.html` into `output`; returns the metrics.

    training: the training step's reports; its `curves.png` goes into the page where there is one.
    Raises ValueError when model, arrays and split do not belong together.
    """
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    segmenter = Segmenter.load(model_folder, flips=section.flips)
    prepared = Prepared(prepared_folder)
    made_from = belong_together(model_folder, segmenter, prepared, split_file)
    splits, ids = prepared.split(split_file), prepared.ids(split_file)
    manifest = read_manifest(prepared_folder / "manifest.parquet")
    if [row["id"] for row in manifest] != ids:
        raise ValueError(f"{split_file} and {prepared_folder}/manifest.parquet name other images; split again")
    tested = [ids[row] for row in splits["test"]]
    images_sha256 = hash_of_test_images(manifest, tested)
    segmenter = replace(segmenter, threshold=_threshold(segmenter, prepared, splits["validation"], section))

    rows, predictions = _score(segmenter, prepared, splits["test"], tested)
    table = to_csv(rows)
    result = {
        "test": summarise(rows, section),
        "threshold": segmenter.threshold,
        "flips": section.flips,
        "image_size": prepared.image_size,
        "source": prepared.description().get("source", "unknown"),
        "test_images_sha256": images_sha256,
        "per_image_sha256": hashlib.sha256(table.encode("utf-8")).hexdigest(),
        **made_from,
    }
    order = sorted(range(len(rows)), key=lambda index: (rows[index]["dice"], rows[index]["id"]))

    def cases(indices: Sequence[int]) -> list[pictures.Case]:
        return [_case(prepared, int(splits["test"][i]), _unpacked(predictions[i], prepared), rows[i]) for i in indices]

    panel = pictures.panel({name: cases(indices) for name, indices in _chosen(order).items()})
    page = report.page(
        result,
        rows,
        info=dict(segmenter.info),
        parameters=sum(parameter.numel() for parameter in segmenter.model.parameters()),
        dataset=prepared.description(),
        panel=panel,
        worst=pictures.gallery(cases(order[: report.WORST])),
        curves=_optional(training / "curves.png"),
    )
    atomic.write(output / "per_image.csv", table)
    atomic.write(output / "panel.png", panel)
    atomic.write(output / "report.html", page)
    atomic.write(output / METRICS, json.dumps(result, indent=2) + "\n")
    return result


def belong_together(model_folder: Path, segmenter: Segmenter, prepared: Prepared, split_file: Path) -> dict[str, str]:
    """What the scores are made from: hashes of weights, images, split and code.

    Raises ValueError unless the model was trained on these images by this split: under another it may have been
    trained on what is now a test image.
    """
    size = segmenter.image_size
    if prepared.image_size != size:
        raise ValueError(
            f"{model_folder}: the model was trained at {size} pixels, {prepared.folder} holds images of "
            f"{prepared.image_size}; train again or prepare at the model's size"
        )
    record = prepared.folder / "prepare.json"
    data, split = evidence.prepared_sha256(prepared.folder), evidence.sha256(split_file)
    said = {"data_sha256": prepared.description()["sha256"]}
    evidence.require(record, said, "data_sha256", prepared.folder, data, "run the prepare step again")
    remedy = "evaluate it on those that it was trained with, or train again"
    description, info = model_folder / "model.json", dict(segmenter.info)
    evidence.require(description, info, "data_sha256", prepared.folder, data, remedy)
    evidence.require(description, info, "split_sha256", split_file, split, remedy)
    return {
        "weights_sha256": info["weights_sha256"],
        "data_sha256": data,
        "split_sha256": split,
        "code_sha256": closure.sha256(closure.files(__name__, *_own(info["model"]["name"]))),
    }


def summarise(rows: Sequence[Row], section: params.Evaluate) -> dict[str, Any]:
    """Per-image means with intervals, the pooled scores, and how many lesions were missed altogether."""
    values = np.array([[row[name] for name in metrics.SCORES] for row in rows])
    estimates = bootstrap(values, section.bootstrap, section.seed)
    return {
        **dict(zip(metrics.SCORES, estimates, strict=True)),
        "pooled": metrics.pooled_scores(rows),
        "images": len(rows),
        "missed": sum(row["dice"] == 0 for row in rows),
    }


def to_csv(rows: Sequence[Row]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, ["id", *metrics.SCORES, *metrics.COUNTS], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def hash_of_test_images(manifest: Sequence[Row], ids: Sequence[str]) -> str:
    """SHA-256 over the test images' ids and the files behind them, image and mask, whatever size they are scored at.

    Two models are compared on equal terms when this agrees.
    """
    chosen = set(ids)
    rows = sorted((row["id"], row["sha256_image"], row["sha256_mask"]) for row in manifest if row["id"] in chosen)
    if len(rows) != len(ids):
        raise ValueError(f"manifest.parquet knows {len(rows)} of {len(ids)} test images; run the prepare step again")
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _own(model: str) -> list[str]:
    """The module that declares the model, unless it is another package's."""
    module = catalogue.module(model)
    return [module] if module.startswith("hymunet.") else []


def _threshold(segmenter: Segmenter, prepared: Prepared, validation: np.ndarray, section: params.Evaluate) -> float:
    if section.threshold != "validation":
        return float(section.threshold)
    found = _probabilities(segmenter, prepared, validation, "validation")
    return best_threshold(found, (prepared.masks[row] for row in validation))


def _score(
    segmenter: Segmenter, prepared: Prepared, test: np.ndarray, ids: Sequence[str]
) -> tuple[list[Row], list[bytes]]:
    """A row per test image, and the predicted masks, packed: of many large images few are in memory at a time."""
    rows, predictions = [], []
    found = _probabilities(segmenter, prepared, test, "test")
    for id, row, probability in zip(ids, test, found, strict=True):
        prediction = probability > np.float32(segmenter.threshold)
        rows.append({"id": id, **metrics.image_scores(prediction, prepared.masks[row])})
        predictions.append(zlib.compress(np.packbits(prediction).tobytes(), 1))
    return rows, predictions


def _unpacked(prediction: bytes, prepared: Prepared) -> np.ndarray:
    size = prepared.image_size
    bits = np.unpackbits(np.frombuffer(zlib.decompress(prediction), np.uint8), count=size * size)
    return bits.reshape(size, size).astype(bool)


def _probabilities(segmenter: Segmenter, prepared: Prepared, rows: np.ndarray, name: str) -> Iterator[np.ndarray]:
    with tqdm(total=len(rows), desc=f"{name} images", unit="image", disable=None) as bar:
        yield from segmenter.stream(prepared.images, rows, bar.update)


def _chosen(order: list[int]) -> dict[str, list[int]]:
    """Positions of the best, the median and the worst cases; order runs from the worst to the best."""
    columns = min(PANEL_COLUMNS, len(order))
    middle = (len(order) - columns) // 2
    return {"best": order[::-1][:columns], "median": order[middle : middle + columns], "worst": order[:columns]}


def _case(prepared: Prepared, row: int, prediction: np.ndarray, scores: Row) -> pictures.Case:
    return pictures.Case(scores["id"], np.array(prepared.images[row]), prepared.masks[row] > 0, prediction, scores)


def _optional(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None
