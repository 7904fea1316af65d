"""The ONNX file computes what the model computes, in ONNX Runtime, for any batch."""

import json
import time

import numpy as np
import pytest
import torch

from hymunet import cli, models
from hymunet.inference import Segmenter
from hymunet.serving import export as module

pytest.importorskip("onnxruntime", reason="ONNX is an extra: pip install hymunet[export]")
pytest.importorskip("onnxscript", reason="ONNX is an extra: pip install hymunet[export]")


@pytest.fixture(scope="module")
def unet(tmp_path_factory):
    """A U-Net has no scan, so it exports in seconds."""
    folder = tmp_path_factory.mktemp("unet")
    section = {"name": "unet", "size": "small"}
    torch.manual_seed(0)
    model = models.build(models.section(section), 32)
    models.save(model, {"model": section, "image_size": 32, "threshold": 0.5}, folder)
    return folder


def agree(model_folder, path, batch):
    import onnxruntime

    segmenter = Segmenter.load(model_folder, device="cpu")
    size = segmenter.image_size
    images = np.random.default_rng(batch).integers(0, 256, (batch, size, size, 3), dtype=np.uint8)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"images": images})
    assert (found.shape, found.dtype) == ((batch, size, size), np.float32)
    np.testing.assert_allclose(found, segmenter.probabilities(images), atol=1e-4)


def test_the_file_takes_pixels_of_any_batch(unet, tmp_path, capsys):
    path = tmp_path / "out" / "model.onnx"
    assert cli.main(["export", "--model", str(unet), "--output", str(path)]) == 0
    assert f"{path}: ONNX Runtime agrees with the model" in capsys.readouterr().out
    for batch in (1, 2, 5):
        agree(unet, path, batch)
    assert [found.name for found in path.parent.iterdir()] == ["model.onnx"]


def test_the_file_says_what_a_user_of_it_needs(unet, tmp_path):
    import onnxruntime

    path = tmp_path / "model.onnx"
    module.export(Segmenter.load(unet, threshold=0.4, flips=True, device="cpu"), path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    told = session.get_modelmeta().custom_metadata_map
    assert {key: told[key] for key in ("colours", "image_size", "threshold", "flips", "run_key")} == {
        **{"colours": "RGB", "image_size": "32", "threshold": "0.4", "flips": "true", "run_key": "unknown"},
    }
    assert told["weights_sha256"] == json.loads((unet / "model.json").read_text())["weights_sha256"]
    module.check(path)  # its own file may be replaced


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
    monkeypatch.setattr(module, "TOLERANCE", -1.0)
    path = tmp_path / "model.onnx"
    assert cli.main(["export", "--model", str(unet), "--output", str(path)]) == 1
    assert "ONNX Runtime differs from the model" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_hymunet_exports_too(finished_training, tmp_path):
    folder, path = finished_training / "artifacts/model", tmp_path / "model.onnx"
    assert json.loads((folder / "model.json").read_text())["model"]["name"] == "hymunet"
    assert module.export(Segmenter.load(folder, device="cpu"), path) < 1e-4
    agree(folder, path, 1)
    agree(folder, path, 3)
