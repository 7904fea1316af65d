"""A study's results as arrays: of each model its scores (seeds, images), all models on the same images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hymunet import evidence
from hymunet.evaluation import record as evaluated
from hymunet.study import results
from hymunet.study.definition import ScoreName
from hymunet.study.plan import Cell, Plan
from hymunet.study.state import settings


@dataclass(frozen=True)
class Score:
    """label: with its unit as shown. factor: from the unit in per_image.csv to the one shown. most: the largest there
    is, in the unit of per_image.csv; the least is 0. group: of those that stand in the second part of a table."""

    label: str
    factor: float
    digits: int
    most: float = 1.0
    group: str = ""


SCORES: dict[ScoreName, Score] = {
    "iou": Score("IoU, %", 100, 1),
    "dice": Score("Dice, %", 100, 1),
    "hd95": Score("HD95, px", 1, 2, float("inf")),
    "precision": Score("precision, %", 100, 1, group="pixel by pixel"),
    "sensitivity": Score("sensitivity, %", 100, 1, group="pixel by pixel"),
    "specificity": Score("specificity, %", 100, 1, group="pixel by pixel"),
    "hd95_fraction": Score("% of the diagonal", 100, 2, group="HD95"),
}
HEADLINE: ScoreName = "dice"


@dataclass(frozen=True)
class Runs:
    """One model's whole runs. values: score -> (seeds, images), in per_image.csv's units. records: of all cells."""

    name: str
    seeds: Sequence[int]
    values: Mapping[str, np.ndarray]
    records: Sequence[dict[str, Any]]


@dataclass(frozen=True)
class Scored:
    """What there is of one set. groups: of each image, what it belongs together with. missing: names of cells."""

    images: str
    ids: Sequence[str]
    groups: Sequence[str]
    models: Mapping[str, Runs]
    missing: Sequence[str]

    @property
    def image_size(self) -> int:
        return next(iter(self.models.values())).records[0]["settings"]["image_size"]


def load(plan: Plan, images: str) -> Scored | None:
    """None where no cell of the set has been tested. A run of a cross-validation counts when all its folds are there.

    Raises ValueError for a damaged result, and for results that do not belong together: other settings than the study
    says, other images, another split.
    """
    cells = [cell for cell in plan.cells if cell.images == images]
    found = {cell: result for cell in cells if (result := _tested(plan, cell))}
    runs: dict[str, dict[int, list[results.Result]]] = {}
    for cell in cells:
        runs.setdefault(cell.model, {}).setdefault(cell.seed, [])
        if cell in found:
            runs[cell.model][cell.seed].append(found[cell])
    parts = plan.study.sets[images].folds or 1
    whole = {
        model: {seed: parts_of for seed, parts_of in seeds.items() if len(parts_of) == parts}
        for model, seeds in runs.items()
    }
    whole = {model: seeds for model, seeds in whole.items() if seeds}
    if not whole:
        return None
    _belong_together(found)
    tables = {(model, seed): _rows(of) for model, seeds in whole.items() for seed, of in seeds.items()}
    ids = sorted(next(iter(tables.values())))
    for (model, seed), rows in tables.items():
        if sorted(rows) != ids:
            raise ValueError(f"{plan.folder}: {images}/{model}/seed-{seed} was tested on other images; {results.AGAIN}")
    group_of = {id: row["group"] or id for id, row in next(iter(tables.values())).items()}
    if len(set(group_of.values())) < 2:
        raise ValueError(f"{plan.folder}: {images} has one group of images to test on; take a larger set")
    models = {}
    for model, seeds in whole.items():
        values: dict[str, np.ndarray] = {
            name: np.array([[tables[model, seed][id][name] for id in ids] for seed in seeds]) for name in SCORES
        }
        records = [result.record for of in seeds.values() for result in of]
        models[model] = Runs(model, list(seeds), values, records)
    return Scored(images, ids, [group_of[id] for id in ids], models, [cell.name for cell in cells if cell not in found])


def _tested(plan: Plan, cell: Cell) -> results.Result | None:
    result = results.read(plan.results(cell))
    if result is None or not result.tested:
        return None
    if others := results.contradictions(settings(plan, cell), result.record["settings"]):
        raise ValueError(f"{result.folder}: not the study's settings: {'; '.join(others)}; {results.AGAIN}")
    return result


def _belong_together(found: Mapping[Cell, results.Result]) -> None:
    """All on the same images by the same split, fold by fold."""
    first: dict[int | None, results.Result] = {}
    for cell, result in found.items():
        other = first.setdefault(cell.fold, result)
        for key in ("data_sha256", "split_sha256"):
            here, there = (one.record["made_from"][key] for one in (result, other))
            if here != there:
                raise ValueError(
                    f"{result.folder}: {key} {here[:12]}, but {there[:12]} in {other.folder}: scores of one table must "
                    f"be of the same images and split; {results.AGAIN}"
                )


def _rows(parts: Sequence[results.Result]) -> dict[str, dict[str, Any]]:
    """id -> its row, of all folds of one run; each has every score of the tables."""
    found: dict[str, dict[str, Any]] = {}
    for part in parts:
        for row in part.rows():
            if row["id"] in found:
                raise ValueError(f"{part.folder}: {row['id']} was tested in another fold, too; {results.AGAIN}")
            for name in SCORES:
                evidence.field(row, part.folder / evaluated.TABLE, results.AGAIN, name)
            found[row["id"]] = row
    return found
