"""What an evaluation writes down: metrics.json and per_image.csv, under names that stay.

SCHEMA grows by one when a name changes its meaning or goes; new names do not change it. Version 1, which did not name
itself, had five scores on the model's grid.
"""

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hymunet import evidence, metrics
from hymunet.evaluation.statistics import Groups, bootstrap
from hymunet.evidence import METRICS
from hymunet.formats import spreadsheet
from hymunet.metrics import NATIVE

SCHEMA = 2
TABLE = "per_image.csv"
FACTS = ("width", "height", "megapixels", "mask_area", "components", "touches_border", "dark_corners")
SEEN = ("contrast", "hair", "ruler", "sticker")
COLUMNS = (
    "id",
    "group",
    *metrics.SCORES,
    *(f"{NATIVE}{name}" for name in metrics.SCORES),
    "confidence",
    "suspicion",
    *metrics.COUNTS,
    *FACTS,
    *SEEN,
)
EMPTY = ("without_lesion", "false_alarms")  # counts of images, of what `summarise` gives
Row = dict[str, Any]


def summarise(
    rows: Sequence[Row], resamples: int, seed: int, groups: Groups, prefix: str = ""
) -> dict[str, Any] | None:
    """Per-image means with intervals, how many lesions were missed or failed, how many images are without a lesion and
    in how many of these something was found; None where not all rows have scores.

    prefix: `native_` for those at the image's own size. The pooled scores count pixels of the model's grid.
    """
    columns = [f"{prefix}{name}" for name in metrics.SCORES]
    if any(row[column] is None for row in rows for column in columns[:1]):
        return None
    estimates = bootstrap(np.array([[row[column] for column in columns] for row in rows]), resamples, seed, groups)
    empty = [row for row in rows if _is_empty(row, prefix)]
    pooled = {} if prefix else {"pooled": metrics.pooled_scores(rows)}
    return {
        **dict(zip(metrics.SCORES, estimates, strict=True)),
        **pooled,
        "images": len(rows),
        "missed": sum(row[f"{prefix}sensitivity"] == 0 for row in rows),  # 1 where there is no lesion to miss
        "failed": sum(row[f"{prefix}iou"] < metrics.FAILED for row in rows),
        "without_lesion": len(empty),
        "false_alarms": sum(row[f"{prefix}dice"] == 0 for row in empty),
    }


def _is_empty(row: Row, prefix: str) -> bool:
    return row["mask_area"] == 0 if prefix else row["true_positive"] + row["false_negative"] == 0


def false_alarms(test: Mapping[str, Any]) -> str:
    """In a sentence, of a record that `summarise` made; nothing where every image shows a lesion."""
    empty, alarms, images = test.get("without_lesion", 0), test.get("false_alarms", 0), test["images"]
    if not empty:
        return ""
    said = f"Images without a lesion: {empty} of {images}, of them with a false alarm: {alarms}"
    said += f" (specificity by image {100 - 100 * alarms / empty:.1f} %)"
    if empty == images:
        return said
    found = test["dice"]["mean"] * images - (empty - alarms)  # each of the empty ones counts 1 or 0
    return f"{said}; Dice of the images with a lesion: {found / (images - empty):.4f}"


def one_group(metrics: Mapping[str, Any]) -> str:
    """In a sentence, where several images are one group, so that an interval over groups has nothing to draw from."""
    images = metrics["test"]["images"]
    if metrics.get("groups") != 1 or images == 1:
        return ""
    return (
        f"All {images} images are of one group ({metrics['grouped_by']}): the intervals have no width and say nothing "
        "of other groups; evaluate on images of more groups"
    )


def grouped_by(metrics: Mapping[str, Any], rows: Sequence[Row]) -> str | None:
    """What says which images belong together; records that do not say it were of near-duplicates, if any."""
    return metrics.get("grouped_by", "near-duplicates" if any(row["group"] for row in rows) else None)


def to_csv(rows: Sequence[Row], groups: Sequence[str] | None) -> str:
    """One line an image; empty where something is not known, 0 and 1 for no and yes; ids are no formulas."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row, group in zip(rows, groups or [""] * len(rows), strict=True):
        numbers = {name: int(value) if isinstance(value, bool) else value for name, value in row.items()}
        writer.writerow(numbers | {"id": spreadsheet.quoted(row["id"]), "group": spreadsheet.quoted(group)})
    return text.getvalue()


def read(folder: Path) -> tuple[dict[str, Any], list[Row]]:
    """metrics.json and the rows of per_image.csv, numbers as numbers. ValueError naming what is missing or unfit."""
    record = evidence.read(folder / METRICS, "evaluate a model, or name an evaluation's folder")
    if record.get("schema") != SCHEMA:
        raise ValueError(
            f"{folder / METRICS}: schema {record.get('schema', 1)}, this version reads {SCHEMA}; evaluate again"
        )
    table = folder / TABLE
    evidence.require(folder / METRICS, record, "per_image_sha256", table, evidence.sha256(table), "evaluate again")
    lines = _lines(table)
    ids = Counter(line["id"] for line in lines)
    if repeated := [id for id, times in ids.items() if times > 1]:
        raise ValueError(f"{table}: {', '.join(repeated[:3])}: more than one row of an image; evaluate again")
    return record, [{name: _value(table, line["id"], name, text) for name, text in line.items()} for line in lines]


def _lines(table: Path) -> list[dict[str, str]]:
    """Text by column. ValueError unless each row has the columns of the head, and `id` is one of them."""
    try:
        with table.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            lines, names = list(reader), reader.fieldnames or ()
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{table}: no table: {error}; evaluate again") from None
    if "id" not in names:
        raise ValueError(f"{table}: holds no id; evaluate again")
    for number, line in enumerate(lines):
        if None in line or None in line.values():
            raise ValueError(f"{table}: row {number + 1} has not the columns of the head; evaluate again")
        line |= {name: spreadsheet.unquoted(line[name]) for name in ("id", "group") if name in line}
    return lines


def to_json(record: Mapping[str, Any]) -> str:
    return json.dumps(record, indent=2, allow_nan=False) + "\n"


def _value(table: Path, id: str, name: str, text: str) -> Any:
    if name in ("id", "group"):
        return text
    if not text and name not in metrics.SCORES:
        return None
    try:
        number = float(text)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{table}: {id}: {name} = {text!r}, expected a number; evaluate again")
    return number
