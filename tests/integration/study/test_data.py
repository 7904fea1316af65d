"""The images of a study's sets: made once by the pipeline's own steps, again where what they are made of changed."""

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from hymunet.data.acquire.synthetic import draw
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
    with pytest.raises(ValueError, match=r"data checks failed; .*report.html: there are at least 100 images .*: 24"):
        data.make(study(tmp_path, validate={**BOUNDS, "min_images": 100}), "drawn", places)
    data.make(study(tmp_path), "drawn", places)
    assert [places.of(cell).hashes() for cell in cells] == first


def listed(folder: Path, patients: list[str]) -> None:
    lines = "".join(f"case_{number:02},{patient}\n" for number, patient in enumerate(patients))
    (folder / "groups.csv").write_text(f"image,group\n{lines}")


def test_folds_keep_patients_whole_and_share_out_images_without_a_lesion(tmp_path: Path) -> None:
    """A folder of one's own: patients of two images, every third of them without a lesion; then of four."""
    mine = tmp_path / "mine"
    for kind in ("images", "masks"):
        (mine / kind).mkdir(parents=True)
    for number in range(24):
        image, mask = draw(number, 48, 3)
        mask = mask * (number // 2 % 3 > 0)
        cv2.imwrite(str(mine / f"images/case_{number:02}.png"), image)
        cv2.imwrite(str(mine / f"masks/case_{number:02}.png"), mask)
    sections = {
        "data": {"source": "folder", "folder": {"path": str(mine)}},
        "prepare": {"max_without_lesion": 0.5},
        "split": {"fractions": [0.5, 0.25, 0.25]},
    }
    places, found = data.Places(tmp_path / "work", {}), []
    for size in (2, 4, 4):
        patients = [f"patient {number // size}" for number in range(24)]
        listed(mine, patients)
        planned = study(tmp_path, **sections)
        data.make(planned, "drawn", places)
        for cell in planned.cells[:3]:
            rows = list(csv.DictReader(places.of(cell).split.open(newline="")))
            sides = {(patient, row["split"]) for patient, row in zip(patients, rows, strict=True)}
            assert len(sides) == 24 / size, "a patient on two sides"
            tested = [number for number, row in enumerate(rows) if row["split"] == "test"]
            without = sum(number // 2 % 3 == 0 for number in tested)
            assert (len(tested), abs(without - 8 / 3) <= size) == (8, True)
        found.append(times(places.work / "data/drawn/prepared"))
    assert found[0] != found[1] == found[2], "made again where groups.csv changed alone"
