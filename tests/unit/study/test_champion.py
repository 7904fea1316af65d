"""The table of single seeds and of their mean in docs/results.md says what the kept scores say."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest

from tests.support.training_data import ROOT

STUDY, SEEDS = ROOT / "studies/champion", range(5)
COLUMNS = [*(STUDY / f"results/isic2018/lite2/seed-{seed}" for seed in SEEDS)]
COLUMNS += [STUDY / "mean_of_five", STUDY / "mean_of_five_flips"]
ROWS = {"test Dice": ("dice", 100), "test IoU": ("iou", 100), "test HD95, px": ("hd95", 1)}


def numbers(row: str) -> list[list[float]]:
    (line,) = [line for line in (ROOT / "docs/results.md").read_text().splitlines() if line.startswith(f"| {row} |")]
    return [[float(one) for one in re.findall(r"\d+\.\d", cell)] for cell in line.split("|")[2:-1]]


@pytest.mark.parametrize("row", ROWS)
def test_the_table_holds_the_kept_scores(row: str) -> None:
    name, scale = ROWS[row]
    for folder, found in zip(COLUMNS, numbers(row), strict=True):
        kept = json.loads((folder / "metrics.json").read_text())["test"][name]
        wanted = [kept["mean"], kept["low"], kept["high"]]
        assert found == [round(scale * value, 1) for value in wanted[: len(found)]], folder
        assert len(found) == (1 if "seed" in folder.name else 3)


def test_the_validation_row_holds_what_training_measured() -> None:
    cells = [json.loads((folder / "cell.json").read_text()) for folder in COLUMNS[:5]]
    found = numbers("validation Dice, as training measured it")
    assert found[:5] == [[round(100 * cell["validation_dice"], 1)] for cell in cells]


@pytest.mark.parametrize("folder", COLUMNS, ids=lambda folder: folder.name)
def test_the_means_are_those_of_every_image(folder: Path) -> None:
    kept = json.loads((folder / "metrics.json").read_text())["test"]
    with (folder / "per_image.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == kept["images"] == 260
    for name, _ in ROWS.values():
        assert np.mean([float(row[name]) for row in rows]) == pytest.approx(kept[name]["mean"], abs=1e-9)
