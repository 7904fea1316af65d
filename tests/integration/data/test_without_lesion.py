"""A folder in which some images show no lesion: through the steps to a report, and refused where they teach nothing."""

import csv
import importlib
import json
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML

from hymunet import params, profiles
from tests.integration.data.test_layouts import file, write
from tests.support.training_data import IMAGES, MASKS, ROOT, drawn, isic_folder

STEPS = ("download", "prepare", "split", "validate", "train", "evaluate")
COUNT, EMPTY, SIDE = 40, 10, 64
TINY = {
    "model": {"name": "unet", "size": "small"},
    "prepare": {"image_size": 32},
    "split": {"fractions": [0.6, 0.2, 0.2]},
    "validate": {"min_images": COUNT},
    "train": {"epochs": 2, "batch_size": 4, "workers": 0, "example_every": 1, "compile": "off", "augment": "device"},
    "evaluate": {"bootstrap": 100, "shifts": True, "threshold": "validation"},
}
REPORTED = f"{EMPTY} of {COUNT} images are without a lesion"


def skin(image, mask):
    """The largest square beside the lesion."""
    left, top, width, height = cv2.boundingRect(mask)
    strips = [image[:top], image[top + height :], image[:, :left], image[:, left + width :]]
    strip = max(strips, key=lambda one: min(one.shape[:2]))
    side = min(strip.shape[:2])
    return strip[:side, :side]


@pytest.fixture(scope="module")
def files():
    """Pairs of ISIC 2018 where they are at hand, drawn ones else; of the last ones the skin beside the lesion."""
    folder = isic_folder()
    if folder:
        images, masks = [], []
        with zipfile.ZipFile(folder / IMAGES) as pictures, zipfile.ZipFile(folder / MASKS) as truths:
            names = sorted(name for name in pictures.namelist() if name.endswith(".jpg"))
            truth = {Path(name).name[:12]: name for name in truths.namelist() if name.endswith(".png")}
            for name in names:
                mask = cv2.imdecode(np.frombuffer(truths.read(truth[Path(name).stem]), np.uint8), cv2.IMREAD_GRAYSCALE)
                image = cv2.imdecode(np.frombuffer(pictures.read(name), np.uint8), cv2.IMREAD_COLOR_RGB)
                if len(images) >= COUNT - EMPTY and min(skin(image, mask).shape[:2]) < SIDE:
                    continue
                images.append(image)
                masks.append(mask)
                if len(images) == COUNT:
                    break
    else:
        images, masks = drawn(COUNT, 192)
        masks *= 255
    found = {}
    for index, (image, mask) in enumerate(zip(images, masks, strict=True)):
        if index >= COUNT - EMPTY:
            image = np.ascontiguousarray(skin(image, mask))
            mask = np.zeros(image.shape[:2], np.uint8)
        found[f"images/case_{index:02}.png"] = file(image, "x.png")
        found[f"masks/case_{index:02}_mask.png"] = file(mask, "x.png")
    return found


def prepared(place, files, monkeypatch, steps=(), **changes):
    """Runs the steps on such a folder; their exit codes."""
    content = params.read_yaml(ROOT / "profiles/paper.yaml")
    profiles.lay_over(content, params.read_yaml(ROOT / "profiles/folder.yaml"))
    profiles.lay_over(content, TINY)
    profiles.lay_over(content, {"data": {"folder": {"path": str(write(place / "mine", files))}}, **changes})
    YAML().dump(content, place / "params.yaml")
    monkeypatch.chdir(place)
    monkeypatch.setenv("HYMUNET_TRACKING", "off")
    return [importlib.import_module(f"components.{step}.__main__").main([]) or 0 for step in steps]


def listing(part):
    """A split of one's own in which a part is of images without a lesion alone."""
    parts = [*["train"] * 18, *["validation"] * 6, *["test"] * 6, *[part] * EMPTY]
    if part:
        parts = [one if one != part or index >= COUNT - EMPTY else "train" for index, one in enumerate(parts)]
    if part == "train":
        parts[:18] = ["test"] * 18
    return "image,split\n" + "".join(f"case_{index:02},{one}\n" for index, one in enumerate(parts))


def test_by_default_they_stop_the_run_and_are_named(tmp_path, files, monkeypatch):
    said = rf"{EMPTY} of {COUNT} pairs cannot be used; .*prepare.max_without_lesion:\n  masks/case_30_mask.png: mask is"
    with pytest.raises(ValueError, match=said):
        prepared(tmp_path, files, monkeypatch, STEPS[:2])
    assert not any((tmp_path / "data/prepared").iterdir())


@pytest.mark.parametrize("part", ["", "test"])
def test_a_model_learns_from_them_and_false_alarms_are_reported(part, tmp_path, files, monkeypatch, capsys):
    """part: of a split of one's own, of images without a lesion alone; nothing: they go where they fall."""
    own = {"groups.csv": listing(part).encode()} if part else {}
    allowed = {"prepare": {"image_size": 32, "max_without_lesion": 0.3}}
    assert prepared(tmp_path, {**files, **own}, monkeypatch, STEPS, **allowed) == [0] * len(STEPS)
    output = capsys.readouterr()
    assert REPORTED in output.err
    split = json.loads((tmp_path / "data/split/split.json").read_text())["without_lesion"]
    assert sum(split.values()) == EMPTY
    assert f"split: images without a lesion: {split}" in output.out
    checks = json.loads((tmp_path / "reports/validation/validation.json").read_text())
    assert (checks["success"], checks["without_lesion"]) == (True, split)
    history = json.loads((tmp_path / "reports/training/history.json").read_text())
    assert all(np.isfinite(epoch["loss"]) and epoch["skipped_steps"] == 0 for epoch in history)
    record = json.loads((tmp_path / "reports/evaluation/metrics.json").read_text())  # holds no NaN: to_json refuses it
    test, images = record["test"], record["test"]["images"]
    with (tmp_path / "reports/evaluation/per_image.csv").open(newline="") as table:
        empty = [row for row in csv.DictReader(table) if float(row["mask_area"]) == 0]
    assert test["without_lesion"] == record["native"]["without_lesion"] == len(empty) == split["test"] > 0
    assert test["false_alarms"] == sum(int(row["false_positive"]) > 0 for row in empty)
    for row in empty:
        alarm = int(row["false_positive"]) > 0
        assert (float(row["dice"]), float(row["sensitivity"]), row["contrast"]) == (not alarm, 1, "")
        assert float(row["hd95"]) == pytest.approx(np.hypot(32, 32) * alarm)
    report = (tmp_path / "reports/evaluation/report.html").read_text()
    assert f"Images without a lesion: {len(empty)} of {images}, of them with a false alarm: " in report
    assert (record["calibration"]["band"] is None) == (part == "test")
    with Image.open(tmp_path / "reports/evaluation/panel.png") as panel:
        assert panel.size[0] > 100


@pytest.mark.parametrize("part", ["train", "validation"])
def test_weights_and_their_choice_need_a_lesion(part, tmp_path, files, monkeypatch, capsys):
    own = {"groups.csv": listing(part).encode()}
    allowed = {"prepare": {"image_size": 32, "max_without_lesion": 0.3}}
    assert prepared(tmp_path, {**files, **own}, monkeypatch, STEPS[:4], **allowed) == [0, 0, 0, 1]
    assert f"some image of {part} shows a lesion" in capsys.readouterr().err
    with pytest.raises(ValueError, match="the data checks failed"):
        importlib.import_module("components.train.__main__").main([])
