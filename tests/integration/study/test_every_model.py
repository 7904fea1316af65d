"""The long proof: every model in its small form on real images at 64², stopped twice, one of them crashing.

200 images and 10 epochs, within an hour on two cores; HYMUNET_PROOF=40x2 is a short form of it.
"""

import csv
import json
import os
import re
import shutil
import signal
import time
from pathlib import Path

import cv2
import pytest

from hymunet.models import catalogue
from tests.support.small_study import ROOT, Study
from tests.support.training_data import isic_folder, real

IMAGES, EPOCHS = map(int, os.environ.get("HYMUNET_PROOF", "200x10").split("x"))
SIZE, LIMIT = 64, 3600.0
pytestmark = [pytest.mark.slow, pytest.mark.timeout(LIMIT + 300)]
CONTROLS = {"no_scan": {"encoder": "cnn"}, "mamba_only": {"encoder": "mamba"}, "no_fusion": {"fusion": "none"}}


def definition() -> dict[str, object]:
    models = {name: {"title": name, "model": {"name": name}} for name in catalogue.names()}
    models |= {name: {"title": name, "model": {"name": "hymunet", **form}} for name, form in CONTROLS.items()}
    models["ward"] = {"title": "the one that crashes", "model": {"name": "ward_net"}}
    data = {"source": "folder", "folder": {"path": "photographs"}}
    train = {"epochs": EPOCHS, "batch_size": 8, "workers": 0, "example_every": 0, "checkpoint_minutes": 60.0}
    bounds = {"min_images": 10, "mask_area": [0.0, 1.0], "median_mask_area": [0.0, 1.0]}
    return {
        "title": "Every model, small",
        "base": "paper.yaml",
        "params": {"prepare": {"image_size": SIZE}, "train": train, "validate": bounds},
        "reference": "hymunet",
        "seeds": [0],
        "models": models,
        "sets": {"real": {"title": "Dermoscopy", "params": {"data": data}}},
        "tables": {"all": {"title": "All", "models": list(models)}},
    }


@pytest.fixture
def study(tmp_path: Path) -> Study:
    if (archives := isic_folder()) is None:
        pytest.skip("no archives of ISIC 2018: HYMUNET_ISIC_DIR names their folder")
    for part in ("images", "masks"):
        (tmp_path / "photographs" / part).mkdir(parents=True)
    for number, (image, mask) in enumerate(zip(*real(IMAGES, 128, archives), strict=True)):
        cv2.imwrite(str(tmp_path / f"photographs/images/case_{number:03}.png"), image[..., ::-1])
        cv2.imwrite(str(tmp_path / f"photographs/masks/case_{number:03}_mask.png"), 255 * mask)
    folder = tmp_path / "every_model"
    folder.mkdir()
    shutil.copy(ROOT / "profiles/paper.yaml", folder)
    (folder / "study.yaml").write_text(json.dumps(definition()))
    return Study(tmp_path, folder)


def test_every_model_is_trained_tested_and_in_the_tables(study: Study) -> None:
    start = time.monotonic()
    names = set(definition()["models"])  # type: ignore[call-overload]
    wanted = {f"{name}/seed-0" for name in names - {"ward"}}
    code, error = study.stopped(signal.SIGTERM, lambda told: sum(map(bool, told.values())) >= 3)
    assert code == 75, error
    code, error = study.stopped(signal.SIGINT, lambda told: sum(map(bool, told.values())) >= 4)
    assert code == 130, error
    done = study.results()
    code, _, error = study.run("run")
    assert code == 1
    assert "real/ward/seed-0: failed: exit code 1: RuntimeError: the planted crash" in error
    assert error.count(": failed: ") == 1, error
    assert study.results().keys() == wanted
    assert {name: study.results()[name] for name in done} == done
    epochs = study.epochs()
    assert {name: epochs[name] for name in wanted} == {name: list(range(1, EPOCHS + 1)) for name in wanted}
    assert time.monotonic() - start < LIMIT
    check_tables(study, names)
    record = {name: re.findall(r"goes on at step", log) for name, log in study.logs().items()}
    assert any(record.values()), "no training was stopped in its middle"


def check_tables(study: Study, names: set[str]) -> None:
    study.options = []
    code, out, error = study.run("tables")
    assert code == 0, error
    files = {Path(line).name for line in out.splitlines()}
    assert files >= {"all.md", "all.tex", "all.csv", "differences.md", "forest.svg", "ranks.svg"}
    with (study.study / "tables/real/all.csv").open(newline="") as file:
        rows = {row["model"]: row for row in csv.DictReader(file)}
    assert rows.keys() == names - {"ward"}
    for name, row in rows.items():
        assert 0 <= float(row["dice"]) <= 1, name
        assert int(row["parameters"]) > 0, name
    assert "Not computed yet: the one that crashes." in (study.study / "tables/real/all.md").read_text()
    assert study.run("tables", "--check")[0] == 0
