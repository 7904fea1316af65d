"""The model that comes with the package: half the bytes, the same masks but at the threshold, a card, and as ONNX."""

import hashlib
import importlib.util
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from hymunet import bundled, cli
from hymunet.data.acquire.synthetic import draw
from hymunet.evaluation import familiar
from hymunet.inference import Segmenter
from hymunet.portable.agreement import compare
from hymunet.prediction import open as opening
from hymunet.prediction.onnx_file import OnnxModel
from hymunet.prediction.segmenter import TorchModel
from hymunet.registry.load import open_segmenter
from tests.support.versions import untrained

WORDS = ("--training", "forty drawn images", "--scores", "Dice 0.5 on them", "--licence", "CC0")


def test_a_packed_model_predicts_as_the_one_it_was_made_from(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bundled, "FOLDER", tmp_path / "package")
    source = untrained(tmp_path / "model", 32, seed=0)
    weights = json.loads((source / "model.json").read_text())["weights_sha256"]
    tested = {"threshold": 0.47, "flips": True, "temperature": 1.2, "weights_sha256": weights}
    (tmp_path / "metrics.json").write_text(json.dumps(tested))
    cv2.imwrite("a.png", draw(0, 80, 7)[0])
    assert cli.main(["predict", "a.png", "--model", "bundled", "--output", "out"]) == 1
    assert "this package comes without a model" in capsys.readouterr().err
    assert cli.main(["bundle", "--model", str(source), "--evaluation", ".", *WORDS]) == 0

    content = (tmp_path / "package/model.safetensors").read_bytes()
    assert len(content) < 0.55 * (source / "model.safetensors").stat().st_size
    card = (tmp_path / "package/CARD.md").read_text()
    for said in (*WORDS[1::2], "not a medical device", hashlib.sha256(content).hexdigest(), weights):
        assert said in card
    assert (tmp_path / "package/model.onnx").stat().st_size < 1.3 * len(content)
    segmenter = Segmenter.load(source, threshold=0.47, flips=True, temperature=1.2)
    (expected,) = segmenter.masks([cv2.imread("a.png", cv2.IMREAD_COLOR_RGB)])
    there = importlib.util.find_spec
    for runtime in ("onnx", "torch", "onnx without torch"):
        with monkeypatch.context() as machine:
            if runtime == "torch":
                machine.setattr(opening, "GPUS", ("/",))
            if runtime == "onnx without torch":
                machine.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else there(name))
            assert cli.main(["predict", "a.png", "--save", "mask,probability", "--output", runtime]) == 0
        assert "exceeds 0.47, averaged over flips (the bundled model" in capsys.readouterr().out
        found, probability = (cv2.imread(f"{runtime}/a_{kind}.png", 0) for kind in ("mask", "probability"))
        assert (np.abs(probability / 255 - 0.47)[found != 255 * expected] < 0.01).all()


@pytest.mark.parametrize(
    ("precision", "images", "gpu", "missing", "onnx"),
    [
        ("float32", 1, False, "", True),
        ("float32", opening.MANY - 1, False, "", True),
        ("float32", opening.MANY, False, "", False),
        ("float32", 1, True, "", False),
        ("bf16", 1, False, "", False),
        ("auto", 1, False, "", False),
        ("float32", 1, False, "onnxruntime", False),
        ("float32", 10**6, True, "torch", True),
    ],
)
@pytest.mark.skipif(not bundled.is_there(), reason="this checkout comes without a model")
def test_the_bundled_model_takes_the_runtime_that_answers_sooner(monkeypatch, precision, images, gpu, missing, onnx):
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else there(name))
    monkeypatch.setattr(opening, "GPUS", ("/",) if gpu else ("/no such device",))
    (member,) = opening.open_models(["bundled"], precision=precision, images=images).members
    assert isinstance(member, OnnxModel) == onnx


def test_what_float16_cannot_hold_is_refused(tmp_path, capsys):
    import torch

    from hymunet import models

    source = untrained(tmp_path / "model", 32, seed=0)
    model, info = models.load(source)
    with torch.no_grad():
        next(model.parameters()).fill_(1e6)
    models.save(model, {key: info[key] for key in ("model", "image_size", "threshold")}, source)
    assert cli.main(["bundle", "--model", str(source), *WORDS, "--output", str(tmp_path / "out")]) == 1
    assert "values beyond float16's 65504" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not bundled.is_there(), reason="this checkout comes without a model")
def test_the_packages_own_model_is_whole():
    info = json.loads((bundled.folder() / "model.json").read_text())
    content = (bundled.folder() / "model.safetensors").read_bytes()
    assert hashlib.sha256(content).hexdigest() == info["weights_sha256"]
    assert info["weights_sha256"] in (bundled.folder() / bundled.CARD).read_text()
    file = bundled.folder() / bundled.GRAPH
    assert b".py" not in file.read_bytes(), "no line of anybody's machine"
    graph = OnnxModel(file)
    assert graph.facts["weights_sha256"] == info["weights_sha256"]
    assert info[familiar.KEY]["images"] > 2000, "what it was trained on is known"
    assert len(content) < 11e6
    segmenter = open_segmenter("bundled", device="cpu")[0]
    segmenter.model.cpu()
    assert segmenter.image_size == info["image_size"]
    pictures = [draw(number, 200 + 300 * number, 11)[0] for number in range(2)]
    compare(TorchModel(segmenter, ""), file, pictures).require("model.onnx", strict=True)


@pytest.mark.skipif(not bundled.is_there(), reason="this checkout comes without a model")
@pytest.mark.parametrize("where", ["bundled", str(bundled.FOLDER)])
def test_the_bundled_model_goes_wherever_a_model_goes(where, tmp_path, monkeypatch, capsys):
    """By its name or by its folder it decides as it was packed."""
    monkeypatch.chdir(tmp_path)
    for folder in ("images", "masks"):
        Path(folder).mkdir()
    for number in range(2):
        image, mask = draw(number, 96, 7)
        cv2.imwrite(f"images/{number}.png", image)
        cv2.imwrite(f"masks/{number}.png", mask)
    arguments = ["--images", "images", "--masks", "masks", "--output", "out"]
    assert cli.main(["evaluate", "--model", where, *arguments]) == 0
    info, tested = (json.loads(path.read_text()) for path in (bundled.FOLDER / "model.json", Path("out/metrics.json")))
    for name in ("threshold", "flips", "temperature", "weights_sha256"):
        assert tested[name] == info[name]


def test_a_model_of_ones_own_comes_before_the_bundled_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert bundled.default() == ("bundled" if bundled.is_there() else "artifacts/model")
    Path("artifacts/model").mkdir(parents=True)
    assert bundled.default() == "artifacts/model"
