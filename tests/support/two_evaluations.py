"""Two evaluations of the same drawn images, as folders with all that an evaluation writes but the panel."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from hymunet.evaluation import record, slices
from hymunet.evaluation.calibration import histogram, summary
from hymunet.evaluation.cases import hash_of_images
from hymunet.evaluation.confidence import selective
from hymunet.evaluation.measure import image_scores
from hymunet.evaluation.report.page import page
from hymunet.evaluation.thumbnails import Thumbnail, thumbnail

SIDE = 32
INFO = {"model": {"name": "unet", "size": "small"}, "epoch": 3, "validation_dice": 0.8}


def drawn(count: int, error: float, side: int = SIDE, seed: int = 0) -> tuple[list[dict[str, Any]], list[Thumbnail]]:
    """Rows and pictures of circles whose radius is found wrong by up to `error` of itself; the images are the same for
    every error and seed."""
    images, wrong = np.random.default_rng(0), np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    rows, pictures = [], []
    for index in range(count):
        centre, radius = images.uniform(0.4, 0.6, 2) * side, images.uniform(0.1, 0.35) * side
        image = images.integers(0, 256, (side, side, 3), dtype=np.uint8)
        distance = np.hypot(x - centre[0], y - centre[1])
        truth, mask = distance < radius, distance < radius * (1 + error * wrong.uniform(-1, 1))
        probability = (1 / (1 + np.exp(distance - radius))).astype(np.float32)
        scores = image_scores(mask, truth)
        facts = {"mask_area": float(truth.mean()), "components": 1, "touches_border": False, "dark_corners": 0}
        seen = {"contrast": 20.0, "hair": 0.0, "ruler": index % 2 == 0, "sticker": False, "source": "drawn"}
        files = {name: f"{name} {index}" for name in ("sha256_image", "sha256_mask")}
        others = {"confidence": float(wrong.random()), "suspicion": 0.0, "megapixels": 0.5, "width": 96, "height": 96}
        native = {f"native_{name}": value for name, value in scores.items()}
        rows.append({"id": f"CASE_{index:04}", **scores, **native, **facts, **seen, **files, **others})
        pictures.append(thumbnail(image, truth, mask, probability, side))
    return rows, pictures


def write(
    folder: Path,
    rows: list[dict[str, Any]],
    pictures: list[Thumbnail] | None = None,
    groups: list[str] | None = None,
    image_size: int = SIDE,
) -> Path:
    """pictures: of report.html, which is not written without."""
    rng = np.random.default_rng(1)
    pixels = summary(histogram(rng.random(1000).astype(np.float32), rng.integers(0, 2, 1000)))
    dice, iou, sure = ([row[name] for row in rows] for name in ("dice", "iou", "confidence"))
    members, table = slices.members(rows), record.to_csv(rows, groups)
    result = {
        "schema": record.SCHEMA,
        "test": record.summarise(rows, 100, 0, groups),
        "native": record.summarise(rows, 100, 0, groups, "native_"),
        "calibration": {"whole": pixels, "band": pixels},
        "confidence": selective(sure, dice, iou),
        "slices": slices.scores(rows, members, 100, 0, groups),
        "shifts": None,
        "left_out": {},
        **{"threshold": 0.5, "temperature": 1.3, "flips": False, "image_size": image_size, "source": "drawn"},
        "grouped_by": "near-duplicates" if groups else None,
        "weights_sha256": hashlib.sha256(str(folder).encode()).hexdigest(),
        "test_images_sha256": hash_of_images(rows),
        "per_image_sha256": hashlib.sha256(table.encode()).hexdigest(),
    }
    folder.mkdir(parents=True)
    (folder / record.TABLE).write_text(table)
    (folder / "metrics.json").write_text(record.to_json(result))
    if pictures:
        more = {"parameters": 9, "dataset": {"images": len(rows)}, "curves": None}
        (folder / "report.html").write_text(page(result, rows, pictures, members, info=INFO, **more))
    return folder
