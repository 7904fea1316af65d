"""`hymunet evaluate --model A --model B`: the mean of several models' probabilities, tested as one model is."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from hymunet import cli, models, params
from hymunet.data.acquire.synthetic import draw
from hymunet.evaluation.ensemble import Ensemble
from hymunet.evaluation.measure import image_scores
from hymunet.images import normalise, read, resize
from hymunet.inference import Segmenter
from tests.support.training_data import ROOT

SIZE, COUNT = 32, 3


def write_model(folder: Path, seed: int, name: str = "unet", **changes: object) -> Path:
    torch.manual_seed(seed)
    content = params.read_yaml(ROOT / "params.yaml")
    content["model"] = {"name": name, "size": "small"}
    section = params.check(content).model
    info = {
        "model": section.model_dump(),
        "image_size": SIZE,
        "threshold": 0.5,
        "data_sha256": "d",
        "split_sha256": "s",
    }
    models.save(models.build(section, SIZE), {**info, **changes}, folder)
    return folder


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for part in ("images", "masks"):
        Path(part).mkdir()
    for index in range(COUNT):
        image, mask = draw(index, 40 + index, 3)
        cv2.imwrite(f"images/case{index}.png", image[..., ::-1])
        cv2.imwrite(f"masks/case{index}.png", mask)
    write_model(tmp_path / "one", 0)
    write_model(tmp_path / "two", 1, "hymunet", temperature=1.7)
    write_model(tmp_path / "three", 2, threshold=0.4)
    return tmp_path


def opened(names):
    return [Segmenter.load(Path(name)) for name in names]


def command(*options):
    return cli.main(["evaluate", "--images", "images", "--masks", "masks", "--output", "out", *options])


def test_its_probabilities_are_the_mean_of_the_members(files):
    images = np.stack([resize(read(path), SIZE) for path in sorted((files / "images").iterdir())])
    members = opened(["one", "two", "three"])
    found = Ensemble.of(members, ["one", "two", "three"]).probabilities(images)
    batch = normalise(torch.from_numpy(images))
    wanted = np.zeros(found.shape)
    for member in members:
        with torch.inference_mode():
            logits = member.model(batch)[:, 0].double().numpy()
        wanted += 1 / (1 + np.exp(-logits / member.temperature)) / 3
    np.testing.assert_allclose(found, wanted, atol=2e-6)


def test_the_order_of_the_models_does_not_matter(files):
    names = ["one", "two", "three"]
    forth, back = (Ensemble.of(opened(order), order) for order in (names, names[::-1]))
    assert forth.info["weights_sha256"] == back.info["weights_sha256"]
    assert forth.threshold == pytest.approx(1.4 / 3)
    images = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3), np.uint8)
    np.testing.assert_allclose(forth.probabilities(images), back.probabilities(images), atol=1e-6)


def test_the_command_scores_the_masks_of_the_mean_over_flips(files, capsys):
    names = ["one", "two"]
    assert command("--model", "one", "--model", "two", "--flips") == 0
    said = capsys.readouterr().out
    assert f"over {COUNT} images" in said
    assert "as the mean of 2 models" in said
    assert json.loads(Path("out/metrics.json").read_text())["flips"] is True
    ensemble = Ensemble.of([replace(one, flips=True) for one in opened(names)], names)
    with Path("out/per_image.csv").open() as file:
        for row in csv.DictReader(file):
            (mask,) = ensemble.masks([read(files / f"images/{row['id']}.png")])
            truth = cv2.imread(str(files / f"masks/{row['id']}.png"), cv2.IMREAD_UNCHANGED) > 0
            assert float(row["native_dice"]) == pytest.approx(image_scores(mask, truth)["dice"], abs=1e-9)
    page = Path("out/report.html").read_text()
    assert "2 models: hymunet small, unet small" in page
    total = sum(parameter.numel() for one in opened(names) for parameter in one.model.parameters())
    assert f"{total:,} parameters" in page


WRONG = {
    "the same twice": (["one", "one"], {}, "one: the same weights as one; an ensemble is of different models"),
    "a copy": (["one", "copy"], {}, "copy: the same weights as one"),
    "another split": (["one", "odd"], {"split_sha256": "t"}, "by other splits, so that one may have seen"),
    "other images": (
        ["one", "odd"],
        {"data_sha256": "e"},
        "were trained on other images (data_sha256: one: d, odd: e)",
    ),
    "another size": (["one", "odd"], {"image_size": 64}, "saw images of other sizes (image_size: one: 32, odd: 64)"),
    "a model that is not there": (["one", "none"], None, "none"),
}


@pytest.mark.parametrize("case", WRONG)
def test_models_that_do_not_go_together_are_refused(case, files, capsys):
    names, changes, message = WRONG[case]
    write_model(files / "copy", 0)
    if changes is not None:
        write_model(files / "odd", 5, **changes)
    assert command(*(part for name in names for part in ("--model", name))) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in error
    assert not Path("out").exists()


def test_an_evaluation_is_of_one_model(files, capsys):
    assert command("--model", "one", "--model", "two", "--evaluation", "reports") == 1
    assert "--evaluation is of one model" in capsys.readouterr().err
