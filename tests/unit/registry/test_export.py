"""The ONNX file does what the model does, in ONNX Runtime, for images of any size and any batch."""

import json
import time

import cv2
import numpy as np
import pytest
import torch

from hymunet import cli, models
from hymunet.data.acquire.synthetic import draw
from hymunet.evaluation.confidence import soft_dice
from hymunet.inference import Segmenter
from hymunet.portable import agreement
from hymunet.portable import export as module
from hymunet.portable.target import check_onnx

pytest.importorskip("onnxruntime", reason="ONNX is an extra: pip install hymunet[export]")
pytest.importorskip("onnxscript", reason="ONNX is an extra: pip install hymunet[export]")

SIZES = [(32, 32), (64, 64), (40, 70), (31, 90), (1, 1), (1, 50), (200, 150)]  # height, width
NEAR = 2e-3


@pytest.fixture(scope="module")
def unet(tmp_path_factory):
    """A U-Net has no scan, so it exports in seconds. Its threshold is its median probability."""
    folder = tmp_path_factory.mktemp("unet")
    section = {"name": "unet", "size": "small"}
    torch.manual_seed(0)
    model = models.build(models.section(section), 32)
    info = {"model": section, "image_size": 32, "threshold": 0.5}
    models.save(model, info, folder)
    threshold = float(np.median(Segmenter.load(folder, device="cpu").probabilities(draw(0, 32, 7)[0][None])))
    models.save(model, {**info, "threshold": threshold}, folder)
    return folder


def pictures(size):
    for number, (height, width) in enumerate(SIZES):
        yield cv2.resize(draw(number, 2 * size, 3)[0], (width, height), interpolation=cv2.INTER_AREA)


def session(path):
    import onnxruntime

    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def agree(segmenter, path):
    opened = session(path)
    for image in pictures(segmenter.image_size):
        found = opened.run(None, {"images": np.stack([image] * 2)})
        small = segmenter.probabilities(module.TorchModel(segmenter, "").prepare(image)[None])[0]
        probability = cv2.resize(small, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        expected = probability > np.float32(segmenter.threshold)
        for mask, probabilities, confidence in zip(*found, strict=True):
            assert (mask.dtype, probabilities.dtype, mask.shape) == (np.uint8, np.float32, image.shape[:2])
            np.testing.assert_allclose(probabilities, probability, atol=NEAR)
            assert (np.abs(probability - segmenter.threshold)[mask != expected] < NEAR).all()
            assert confidence == pytest.approx(soft_dice(probabilities, mask), abs=1e-5)


def test_the_file_takes_images_of_any_size(unet, tmp_path, capsys, recwarn):
    path = tmp_path / "out" / "model.onnx"
    assert cli.main(["export", "--model", str(unet), "--output", str(path)]) == 0
    assert f"{path}: on 5 drawn images" in capsys.readouterr().out
    assert [str(told.message) for told in recwarn if told.category is FutureWarning] == []
    agree(Segmenter.load(unet, device="cpu"), path)
    assert [found.name for found in path.parent.iterdir()] == ["model.onnx"]
    check_onnx(path)  # its own file may be replaced
    assert b".py" not in path.read_bytes(), "whose machine made it, and where its code lies, is nobody's business"


def test_flips_and_temperature_are_inside(unet, tmp_path):
    segmenter = Segmenter.load(unet, threshold=0.4, flips=True, temperature=1.7, device="cpu")
    path = tmp_path / "model.onnx"
    module.export(segmenter, path)
    agree(segmenter, path)
    told = session(path).get_modelmeta().custom_metadata_map
    assert {key: told[key] for key in ("colours", "image_size", "threshold", "flips", "temperature", "run_key")} == {
        **{"colours": "RGB", "image_size": "32", "threshold": "0.4", "flips": "true, averaged inside"},
        **{"temperature": "1.7, applied", "run_key": "unknown"},
    }
    assert told["weights_sha256"] == json.loads((unet / "model.json").read_text())["weights_sha256"]


def test_the_largest_region_is_left_to_predict_and_the_file_says_so(unet, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    known = json.loads((unet / "model.json").read_text())
    tested = {name: known[name] for name in ("threshold", "weights_sha256")} | {"largest_region": True}
    (tmp_path / "metrics.json").write_text(json.dumps(tested))
    cv2.imwrite("a.png", next(pictures(32)))
    assert cli.main(["export", "--model", str(unet), "--evaluation", ".", "--output", "model.onnx"]) == 0
    told = session("model.onnx").get_modelmeta().custom_metadata_map
    assert told["largest_region"] == "true, left to the reader: mask holds every region"

    def regions(name, *options):
        assert cli.main(["predict", "a.png", *options, "--output", name]) == 0
        return cv2.connectedComponents(cv2.imread(f"{name}/a_mask.png", 0))[0] - 1

    model = ("--model", str(unet))
    assert regions("torch", *model, "--evaluation", ".") == regions("onnx", "--model", "model.onnx") == 1
    assert regions("every", *model) > 1


def test_predict_takes_the_file_and_gives_the_model_s_masks(unet, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module.export(Segmenter.load(unet, device="cpu"), tmp_path / "model.onnx")
    for number, image in enumerate(pictures(32)):
        cv2.imwrite(f"{number}.png", image[..., ::-1])
    for model, output in ((str(unet), "torch"), ("model.onnx", "onnx")):
        assert cli.main(["predict", "*.png", "--model", model, "--output", output]) == 0
    for number in range(len(SIZES)):
        masks = [cv2.imread(f"{place}/{number}_mask.png", 0) for place in ("torch", "onnx")]
        assert np.mean(masks[0] != masks[1]) < 0.01


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file; write one with hymunet export"),
        (b"not ONNX", "not a readable ONNX model"),
        ("foreign", "was not written by hymunet export"),
    ],
)
def test_predict_refuses_other_files(tmp_path, capsys, content, message):
    from onnx import parser

    cv2.imwrite(str(tmp_path / "a.png"), draw(0, 32, 7)[0])
    path = tmp_path / "model.onnx"
    if content == "foreign":
        text = '<ir_version: 8, opset_import: ["" : 18]> g (float[N] x) => (float[N] y) { y = Relu (x) }'
        content = parser.parse_model(text).SerializeToString()
    if content:
        path.write_bytes(content)
    assert cli.main(["predict", str(tmp_path / "a.png"), "--model", str(path), "--output", str(tmp_path / "o")]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("key", "value"), [("threshold", None), ("threshold", "half"), ("flips", None), ("training_images", "{")]
)
def test_a_file_whose_metadata_were_changed_is_named(unet, tmp_path, capsys, key, value):
    import onnx

    path = tmp_path / "model.onnx"
    module.write(Segmenter.load(unet, device="cpu"), path)
    model = onnx.load(path)
    told = {entry.key: entry.value for entry in model.metadata_props} | {key: value}
    onnx.helper.set_model_props(model, {name: text for name, text in told.items() if text is not None})
    onnx.save(model, path)
    cv2.imwrite(str(tmp_path / "a.png"), draw(0, 32, 7)[0])
    assert cli.main(["predict", str(tmp_path / "a.png"), "--model", str(path), "--output", str(tmp_path / "o")]) == 1
    said = capsys.readouterr().err
    assert f"{path}: its metadata were changed (" in said
    assert said.endswith("); export the model again\n")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.mkdir(), "is a folder; name the file to write, such as"),
        (lambda path: path.write_text("not ours"), "exists, and was not written by this command"),
        (lambda path: path.write_bytes(b""), "exists, and was not written by this command"),
    ],
)
def test_what_can_be_checked_first_is_checked_first(tmp_path, capsys, make, message):
    path = tmp_path / "model.onnx"
    make(path)
    began = time.monotonic()
    assert cli.main(["export", "--model", str(tmp_path / "no model"), "--output", str(path)]) == 1
    assert message in capsys.readouterr().err, "before the model is even looked for"
    assert time.monotonic() - began < 20


def test_a_file_that_disagrees_is_not_written(unet, tmp_path, capsys, monkeypatch):
    """The export is of another temperature than the model: masks are the same, probabilities are not."""
    monkeypatch.setattr(module, "Portable", lambda model, temperature, flips: Other(model))
    path = tmp_path / "model.onnx"
    assert cli.main(["export", "--model", str(unet), "--output", str(path)]) == 1
    assert "ONNX Runtime differs from the model" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


class Other(module.Portable):
    def forward(self, images):
        return (super().forward(images) + 0.01).clamp(0, 1)


def test_real_images_are_asked_for_equal_dice():
    found = agreement.Agreement(images=3, probability=1e-5, confidence=0, differing=9, wrong=0, dice=0.9998)
    found.require("x", strict=False)
    with pytest.raises(ValueError, match=r"Dice 0\.99980; nothing was written"):
        found.require("x", strict=True)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_hymunet_exports_too(finished_training, tmp_path):
    folder, path = finished_training / "artifacts/model", tmp_path / "model.onnx"
    assert json.loads((folder / "model.json").read_text())["model"]["name"] == "hymunet"
    segmenter = Segmenter.load(folder, device="cpu")
    assert module.export(segmenter, path).wrong == 0
    agree(segmenter, path)
