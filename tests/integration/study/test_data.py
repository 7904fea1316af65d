"""The images of a study's sets: made once by the pipeline's own steps, again where what they are made of changed."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from hymunet.study import data, plan
from tests.support import small_study

NET = {"unet": {"title": "U-Net", "model": {"name": "unet", "size": [4, 8]}}}
DRAWN = {"source": "synthetic", "synthetic": {"images": 24, "size": 48, "seed": 3}}
BOUNDS = {"min_images": 10, "mask_area": [0.0, 1.0], "median_mask_area": [0.0, 1.0]}


def study(folder: Path, **changes: dict[str, object]) -> plan.Plan:
    sections = {"data": DRAWN, "validate": BOUNDS, **changes}
    sets = {"drawn": {"title": "Drawn", "params": sections, "folds": 3}}
    file = folder / "mini/study.yaml"
    if not file.parent.exists():
        small_study.write_study(file.parent, models=NET, tables={}, sets=sets)
    file.write_text(json.dumps(small_study.definition(models=NET, tables={}, sets=sets)))
    return plan.load(file.parent)


def times(folder: Path) -> dict[str, int]:
    return {
        path.relative_to(folder).as_posix(): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()
    }


def test_data_are_made_once_and_again_where_what_they_are_made_of_changed(tmp_path: Path) -> None:
    places = data.Places(tmp_path / "work", {})
    planned = study(tmp_path)
    cells = planned.cells
    assert places.of(cells[0]).hashes() is None
    data.make(planned, "drawn", places)
    first = [places.of(cell).hashes() for cell in cells]
    assert all(first)
    assert len({found["data_sha256"] for found in first if found}) == 1
    assert len({found["split_sha256"] for found in first if found}) == 3
    tested = [
        row["id"]
        for cell in cells[:3]
        for row in csv.DictReader(places.of(cell).split.open(newline=""))
        if row["split"] == "test"
    ]
    assert len(tested) == len(set(tested)) == len(np.load(places.of(cells[0]).prepared / "images.npy")) == 24
    made = times(places.work)
    data.make(planned, "drawn", places)
    assert times(places.work) == made, "made twice"
    data.make(study(tmp_path, split={"seed": 1}), "drawn", places)
    second = [places.of(cell).hashes() for cell in cells]
    assert {found["data_sha256"] for found in second if found} == {found["data_sha256"] for found in first if found}
    assert second != first
    with pytest.raises(ValueError, match=r"there are at least 100 images .*: 24; report: .*report.html"):
        data.make(study(tmp_path, validate={**BOUNDS, "min_images": 100}), "drawn", places)
    data.make(study(tmp_path), "drawn", places)
    assert [places.of(cell).hashes() for cell in cells] == first
