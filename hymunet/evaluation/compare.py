"""Two evaluations of the same images, case by case: how much they differ, where, and which cases flip.

Every difference is the second less the first, over the same images, with the interval of `statistics.differences`:
images that belong together are drawn together. docs/evaluation.md says how to read it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hymunet import evidence
from hymunet.data.grouping import together
from hymunet.evaluation import record, slices
from hymunet.evaluation.report.names import LOW_IS_GOOD, TOGETHER
from hymunet.evaluation.statistics import Groups, differences, standardised
from hymunet.evidence import METRICS
from hymunet.metrics import FAILED, NATIVE, SCORES

SCHEMA = 1
RESAMPLES, SEED = 2000, 0
SLICE_RESAMPLES = 20_000  # intervals that hold for all slices together reach further into the tails
SIGNED = {"area_error"}  # good is what is near 0
Row = dict[str, Any]


@dataclass(frozen=True)
class Side:
    """One evaluation. rows: in the order of their ids, as both sides have them."""

    name: str
    folder: Path
    metrics: dict[str, Any]
    rows: list[Row]


@dataclass(frozen=True)
class Compared:
    """result: comparison.json. members: slices by positions of rows, those of flipped cases first."""

    sides: tuple[Side, Side]
    result: dict[str, Any]
    members: slices.Members
    basis: str  # what a column's name begins with: nothing on the model's grid, `native_` where the grids differ


def compare(first: Path, second: Path, columns: Path | None = None) -> Compared:
    """Two folders with an evaluation's metrics.json and per_image.csv, such as a study's cells. columns: own slices, a
    CSV by `id`.

    Raises ValueError when the two are not of the same images.
    """
    names = _names(first, second)
    a, b = _side(first, names[0]), _side(second, names[1])
    remedy = "evaluate both on the same images"
    evidence.require(second / METRICS, b.metrics, "test_images_sha256", first, a.metrics["test_images_sha256"], remedy)
    if [row["id"] for row in a.rows] != [row["id"] for row in b.rows]:
        raise ValueError(f"{first} and {second}: not the same images in their {record.TABLE}; {remedy}")
    grids = [""] if a.metrics["image_size"] == b.metrics["image_size"] else []
    grids += [NATIVE] if a.metrics["native"] and b.metrics["native"] else []
    if not grids:
        sizes = f"{a.metrics['image_size']} and {b.metrics['image_size']}"
        raise ValueError(
            f"{first} and {second}: scored at {sizes} pixels, and one of them not at the images' own size, where they "
            "could be compared; prepare the images again, which keeps masks at their own size, and evaluate again"
        )
    basis = grids[0]
    groups, alike = together(*([row["group"] or row["id"] for row in side.rows] for side in (a, b)))
    if len(set(groups)) == 1 < len(groups):
        raise ValueError(
            f"{first} and {second}: all images are of one group, or become one when what either puts together is put "
            "together, which tells nothing of others; evaluate both on images of more groups"
        )
    by = _said_by([record.grouped_by(side.metrics, side.rows) for side in (a, b)])
    ids = [row["id"] for row in a.rows]
    flips = _flips(a.rows, b.rows, f"{basis}iou")
    own = slices.read_columns(columns, ids) if columns else {}
    members = slices.members(a.rows, own)
    tables = {name: _scores(a.rows, b.rows, prefix, groups) for name, prefix in _tables(grids).items()}
    result = {
        "schema": SCHEMA,
        "verdict": verdict(a.name, b.name, tables["native" if basis else "scores"], len(ids), len(set(groups)), by),
        "first": _facts(a, basis),
        "second": _facts(b, basis),
        "images": len(ids),
        "groups": len(set(groups)),
        "grouped_by": by,
        "grouped_alike": alike,
        "test_images_sha256": a.metrics["test_images_sha256"],
        "compared_at": "native" if basis else "grid",
        **tables,
        "flips": {name: [_flip(a.rows[i], b.rows[i], basis) for i in places] for name, places in flips.items()},
        "slices": _slices(a.rows, b.rows, basis, members, groups),
    }
    shown = {f"failed in {side.name} alone": flips[name] for side, name in zip((a, b), flips, strict=True)}
    return Compared((a, b), result, {"flipped": {k: v for k, v in shown.items() if v}, **members}, basis)


def verdict(first: str, second: str, scores: dict[str, Any], images: int, groups: int, by: str | None) -> str:
    """One sentence on Dice, never without its size and interval."""
    one = scores["dice"]["difference"]
    mean, low, high = (100 * one[key] for key in ("mean", "low", "high"))
    if groups < 2:
        said = f"The difference is not settled: {mean:+.2f} points of Dice, {second} less {first}, on one image"
        return f"{said}, which tells nothing of others."
    over = f"over {images:,} images {f'in {groups:,} groups of {by}' if by else f'({TOGETHER[by]})'}"
    if low <= 0 <= high:
        said = f"The difference is not settled: {mean:+.2f} points of Dice, 95 % interval {low:+.2f} to {high:+.2f}"
        return f"{said}, {second} less {first}, {over}."
    leader, other = (second, first) if mean > 0 else (first, second)
    nearer, farther = sorted((abs(low), abs(high)))
    said = f"{leader} leads {other} by {abs(mean):.2f} points of Dice"
    return f"{said}, 95 % interval {nearer:.2f} to {farther:.2f}, {over}."


def _side(folder: Path, name: str) -> Side:
    metrics, rows = record.read(folder)
    return Side(name, folder, metrics, sorted(rows, key=lambda row: row["id"]))


def _names(first: Path, second: Path) -> tuple[str, str]:
    """What tells the two folders apart: their paths without the parts that both begin or end with."""
    a, b = (list(path.resolve().parts) for path in (first, second))
    if a == b:
        raise ValueError(f"{first}: compared with itself; name two evaluations")
    while a and b and a[-1] == b[-1]:
        a.pop()
        b.pop()
    while len(a) > 1 and len(b) > 1 and a[0] == b[0]:
        del a[0], b[0]
    return "/".join(a) or str(first), "/".join(b) or str(second)


def _said_by(names: Sequence[str | None]) -> str | None:
    """What names the groups of both, of what names those of either."""
    parts = {part for name in names if name for part in name.split(" and ")}
    return next(name for name in TOGETHER if set(name.split(" and ") if name else ()) == parts)


def _tables(grids: Sequence[str]) -> dict[str, str]:
    """The tables `scores` and `native` of the record, and what their columns begin with."""
    return {"native" if prefix else "scores": prefix for prefix in grids}


def _facts(side: Side, basis: str) -> dict[str, Any]:
    metrics, calibration = side.metrics, side.metrics["calibration"]
    scores = metrics["native" if basis else "test"]
    return {
        "name": side.name,
        **{name: metrics[name] for name in ("weights_sha256", "threshold", "temperature", "flips", "image_size")},
        "largest_region": metrics.get("largest_region", False),
        "failed": scores["failed"],
        "missed": scores["missed"],
        "without_lesion": scores.get("without_lesion", 0),
        "false_alarms": scores.get("false_alarms", 0),
        "ece": (calibration["band"] or calibration["whole"])["ece"],
        "aurc": metrics["confidence"]["aurc"],
    }


def _scores(first: Sequence[Row], second: Sequence[Row], prefix: str, groups: Groups) -> dict[str, Any]:
    """Of each score: both means, the difference with its interval, on which part of the images the second is better
    (ties by half), and Cohen's d."""
    a, b = (np.array([[row[f"{prefix}{name}"] for name in SCORES] for row in rows]) for rows in (first, second))
    estimates = differences(b - a, RESAMPLES, SEED, groups)
    found = {}
    for column, (name, estimate) in enumerate(zip(SCORES, estimates, strict=True)):
        gain = _gain(name, a[:, column], b[:, column])
        found[name] = {
            "first": float(a[:, column].mean()),
            "second": float(b[:, column].mean()),
            "difference": estimate,
            "second_better": float((np.sign(gain) + 1).mean() / 2),
            "effect": _effect(b[:, column] - a[:, column]),
        }
    return found


def _gain(name: str, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """How much better the second is, whichever way is good."""
    if name in SIGNED:
        return np.abs(first) - np.abs(second)
    return first - second if name in LOW_IS_GOOD else second - first


def _effect(differences: np.ndarray) -> float | None:
    """None where it says nothing: a single image, or the same difference on all."""
    if len(differences) < 2 or not np.isfinite(found := standardised(differences)):
        return None
    return found


def _flips(first: Sequence[Row], second: Sequence[Row], iou: str) -> dict[str, list[int]]:
    """Positions of the cases that only one of the two fails."""
    failed = [np.array([row[iou] < FAILED for row in rows]) for rows in (first, second)]
    return {
        "failed_in_first": np.flatnonzero(failed[0] & ~failed[1]).tolist(),
        "failed_in_second": np.flatnonzero(failed[1] & ~failed[0]).tolist(),
    }


def _flip(first: Row, second: Row, basis: str) -> dict[str, Any]:
    return {"id": first["id"], "first_iou": first[f"{basis}iou"], "second_iou": second[f"{basis}iou"]}


def _slices(
    first: Sequence[Row], second: Sequence[Row], basis: str, members: slices.Members, groups: Sequence[str]
) -> list[dict[str, Any]]:
    """Dice in each slice; `differs` where the interval leaves 0 out that holds for all slices together (Bonferroni)."""
    a, b = (np.array([row[f"{basis}dice"] for row in rows]) for rows in (first, second))
    looked_at = sum(map(len, members.values()))
    result = []
    for name, values in members.items():
        for value, places in values.items():
            own = [groups[i] for i in places]
            gain = (b - a)[places][:, None]
            (estimate,) = differences(gain, RESAMPLES, SEED, own)
            (wide,) = differences(gain, SLICE_RESAMPLES, SEED, own, tail=0.025 / looked_at)
            small = len(set(own)) < slices.SMALL
            result.append(
                {
                    "slice": name,
                    "value": value,
                    "images": len(places),
                    "first": float(a[places].mean()),
                    "second": float(b[places].mean()),
                    "difference": estimate,
                    "differs": not small and not wide["low"] <= 0 <= wide["high"],
                    "small": small,
                }
            )
    return result
