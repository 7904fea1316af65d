"""The model on the test images: metrics with confidence intervals, a row per image, pictures and a page."""

import csv
import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from hymunet import atomic, inference, metrics, models, params
from hymunet.data.feed.dataset import Prepared
from hymunet.data.prepare.manifest import read_manifest
from hymunet.evaluation import pictures, report
from hymunet.evaluation.statistics import bootstrap
from hymunet.evaluation.threshold import best_threshold

PANEL_COLUMNS, WORST = 4, 12
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
    model, info = models.load(model_folder, inference.device())
    prepared = Prepared(prepared_folder)
    if prepared.image_size != info["image_size"]:
        raise ValueError(
            f"{model_folder}: the model was trained at {info['image_size']} pixels, "
            f"{prepared_folder} holds images of {prepared.image_size}; train again or prepare at the model's size"
        )
    splits, ids = prepared.split(split_file), prepared.ids(split_file)
    threshold = _threshold(model, prepared, splits["validation"], section)

    rows_of_test = splits["test"]
    predictions = _probabilities(model, prepared.images, rows_of_test, section.flips, "test") > np.float32(threshold)
    rows = [
        {"id": ids[row], **metrics.image_scores(prediction, prepared.masks[row])}
        for row, prediction in zip(rows_of_test, predictions, strict=True)
    ]
    result = {
        "test": summarise(rows, section),
        "threshold": threshold,
        "flips": section.flips,
        "image_size": prepared.image_size,
        "test_images_sha256": hash_of_test_images(
            read_manifest(prepared_folder / "manifest.parquet"), [r["id"] for r in rows]
        ),
    }
    order = sorted(range(len(rows)), key=lambda index: (rows[index]["dice"], rows[index]["id"]))

    def cases(indices: Sequence[int]) -> list[pictures.Case]:
        return [_case(prepared, int(rows_of_test[i]), predictions[i], rows[i]) for i in indices]

    panel = pictures.panel({name: cases(indices) for name, indices in _chosen(order).items()})
    page = report.page(
        result,
        rows,
        info=info,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        dataset=prepared.description(),
        panel=panel,
        worst=pictures.gallery(cases(order[:WORST])),
        curves=_optional(training / "curves.png"),
    )
    atomic.write(output / "per_image.csv", to_csv(rows))
    atomic.write(output / "panel.png", panel)
    atomic.write(output / "report.html", page)
    atomic.write(output / "metrics.json", json.dumps(result, indent=2) + "\n")
    return result


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


def _threshold(model: nn.Module, prepared: Prepared, validation: np.ndarray, section: params.Evaluate) -> float:
    if section.threshold != "validation":
        return float(section.threshold)
    found = _probabilities(model, prepared.images, validation, section.flips, "validation")
    return best_threshold(found, prepared.masks[validation])


def _probabilities(model: nn.Module, images: np.ndarray, rows: np.ndarray, flips: bool, name: str) -> np.ndarray:
    with tqdm(total=len(rows), desc=f"{name} images", unit="image", disable=None) as bar:
        return inference.probabilities(model, images[rows], flips, progress=bar.update)


def _chosen(order: list[int]) -> dict[str, list[int]]:
    """Positions of the best, the median and the worst cases; order runs from the worst to the best."""
    columns = min(PANEL_COLUMNS, len(order))
    middle = (len(order) - columns) // 2
    return {"best": order[::-1][:columns], "median": order[middle : middle + columns], "worst": order[:columns]}


def _case(prepared: Prepared, row: int, prediction: np.ndarray, scores: Row) -> pictures.Case:
    return pictures.Case(scores["id"], np.array(prepared.images[row]), prepared.masks[row] > 0, prediction, scores)


def _optional(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None
