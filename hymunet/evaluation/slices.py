"""In which groups of images does the model do worse: scores by what the manifest and the image itself say.

A slice has its number of images with it and an interval, and a warning where it is small: many slices are looked at,
and small ones differ by chance.
"""

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hymunet.evaluation.statistics import bootstrap
from hymunet.formats import spreadsheet
from hymunet.metrics import FAILED

SMALL = 20  # groups of images, or images where each is its own, below which a slice is marked
MOST = 12  # values of an own column that are shown as they are; numbers with more of them go by thirds
EMPTY, OTHERS = "(empty)", "(others)"  # of an own column: images without a value, and those of rarer values
Row = Mapping[str, Any]


def _steps(column: str, *steps: tuple[float, str], last: str) -> Callable[[Row], str | None]:
    """The name beside the first limit that the value stays below."""

    def name(row: Row) -> str | None:
        value = row.get(column)
        if value is None:
            return None
        return next((text for limit, text in steps if value < limit), last)

    return name


def _either(column: str, yes: str, no: str) -> Callable[[Row], str | None]:
    return lambda row: None if row.get(column) is None else yes if row[column] else no


SLICES: dict[str, Callable[[Row], str | None]] = {
    "lesion size": _steps(
        "mask_area", (1e-9, "no lesion"), (0.05, "under 5 % of the image"), (0.25, "5 to 25 %"), last="over 25 %"
    ),
    "border contact": _either("touches_border", "touches the frame", "inside the image"),
    "contrast to the skin": _steps(
        "contrast", (15, "low (ΔE under 15)"), (30, "medium (15 to 30)"), last="high (over 30)"
    ),
    "hair": _steps("hair", (0.004, "little or none"), (0.02, "some"), last="much (over 2 % of the image)"),
    "dark corners": _steps("dark_corners", (1, "none"), (4, "one to three"), last="all four"),
    "ruler": _either("ruler", "with a ruler", "without"),
    "sticker": _either("sticker", "with a sticker", "without"),
    "objects": _steps("components", (1, "none"), (2, "one"), last="several"),
    "native resolution": _steps(
        "megapixels", (1, "under 1 megapixel"), (6, "1 to 6 megapixels"), last="over 6 megapixels"
    ),
    "source": lambda row: row.get("source"),
}
COLUMNS = {
    "lesion size": "mask_area",
    "border contact": "touches_border",
    "contrast to the skin": "contrast",
    "hair": "hair",
    "dark corners": "dark_corners",
    "ruler": "ruler",
    "sticker": "sticker",
    "objects": "components",
    "native resolution": "megapixels",
}
Members = dict[str, dict[str, list[int]]]  # slice -> value -> positions of rows


def members(rows: Sequence[Row], own: Mapping[str, Sequence[str]] | None = None) -> Members:
    """Slices with at least two values, and every own column."""
    found: Members = {}
    for name, value_of in SLICES.items():
        values: dict[str, list[int]] = {}
        for position, row in enumerate(rows):
            values.setdefault(value_of(row) or "unknown", []).append(position)
        if len(values) > 1:
            found[name] = dict(sorted(values.items(), key=lambda item: _place(rows, COLUMNS.get(name), item[1])))
    for name, column in (own or {}).items():
        found[name] = _own(column)
    return found


def scores(
    rows: Sequence[Row], found: Members, resamples: int, seed: int, groups: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """One entry a slice and value: images, Dice and IoU with intervals, failures, `small`."""
    result = []
    for name, values in found.items():
        for value, positions in values.items():
            part = np.array([[rows[i]["dice"], rows[i]["iou"]] for i in positions])
            own_groups = None if groups is None else [groups[i] for i in positions]
            dice, iou = bootstrap(part, resamples, seed, own_groups)
            result.append(
                {
                    "slice": name,
                    "value": value,
                    "images": len(positions),
                    "dice": dice,
                    "iou": iou,
                    "failed": int((part[:, 1] < FAILED).sum()),
                    "small": len(set(own_groups or positions)) < SMALL,
                }
            )
    return result


def read_columns(path: Path, ids: Sequence[str]) -> dict[str, list[str]]:
    """Own columns by a CSV with a column `id`; an image that it leaves out has an empty value.

    Raises ValueError for a file without `id`, with an id twice, or that knows none of the images.
    """
    names, by_id = read_table(path)
    if not any(id in by_id for id in ids):
        raise ValueError(f"{path}: knows none of the {len(ids)} images; its ids are like {next(iter(by_id), 'none')!r}")
    return {name: [(by_id.get(id, {}).get(name) or "").strip() for id in ids] for name in names}


def read_table(path: Path) -> tuple[list[str], dict[str, dict[str, str]]]:
    """The names of its columns but `id`, and its rows by id. Raises ValueError as `read_columns` does."""
    columns, rows = spreadsheet.read(path, ("id",))
    names = [name for name in columns if name and name != "id"]
    if "id" not in columns or not names:
        raise ValueError(f"{path}: expected a column id and others, found {', '.join(columns) or 'none'}")
    by_id: dict[str, dict[str, str]] = {}
    for row in rows:
        if not any(value.strip() for value in row.values()):
            continue
        id = spreadsheet.unquoted(unicodedata.normalize("NFC", row["id"].strip()))  # as the pairs' ids are written
        if id in by_id:
            raise ValueError(f"{path}: the id {id!r} twice among {len(rows)} rows; leave one of each")
        by_id[id] = row
    return names, by_id


def _place(rows: Sequence[Row], column: str | None, positions: Sequence[int]) -> float:
    """Values in the order of the column behind them, `unknown` last."""
    known = [float(rows[i][column]) for i in positions if column and rows[i].get(column) is not None]
    return float(np.mean(known)) if known else np.inf


def _own(column: Sequence[str]) -> dict[str, list[int]]:
    named = [value or EMPTY for value in column]
    values = {value: [i for i, other in enumerate(named) if other == value] for value in sorted(set(named))}
    if len(values) <= MOST:
        return values
    try:
        numbers = np.array([np.nan if value == EMPTY else float(value) for value in named])
    except ValueError:
        often = sorted(values, key=lambda value: (-len(values[value]), value))
        kept = {value: values[value] for value in often[: MOST - 1] if value != OTHERS}
        return {**kept, OTHERS: sorted(set(range(len(named))) - {i for positions in kept.values() for i in positions})}
    low, high = np.nanquantile(numbers, [1 / 3, 2 / 3])
    thirds = {
        f"up to {low:g}": numbers <= low,
        f"{low:g} to {high:g}": (numbers > low) & (numbers <= high),
        f"over {high:g}": numbers > high,
        EMPTY: np.isnan(numbers),
    }
    return {name: np.flatnonzero(chosen).tolist() for name, chosen in thirds.items() if chosen.any()}
