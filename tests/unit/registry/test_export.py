"""The ONNX file computes what the model computes, in ONNX Runtime, for any batch."""

import json

import numpy as np
import pytest
import torch

from hymunet import cli, inference, models
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

    model, info = models.load(model_folder)
    size = info["image_size"]
    images = np.random.default_rng(batch).integers(0, 256, (batch, size, size, 3), dtype=np.uint8)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"images": images})
    assert (found.shape, found.dtype) == ((batch, size, size), np.float32)
    np.testing.assert_allclose(found, inference.probabilities(model, images), atol=1e-4)


def test_the_file_takes_pixels_of_any_batch(unet, tmp_path, capsys):
    path = tmp_path / "out" / "model.onnx"
    assert cli.main(["export", "--model", str(unet), "--output", str(path)]) == 0
    assert f"{path}: ONNX Runtime agrees with the model" in capsys.readouterr().out
    for batch in (1, 2, 5):
        agree(unet, path, batch)
    assert [found.name for found in path.parent.iterdir()] == ["model.onnx"]


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
    assert module.export(folder, path) < 1e-4
    agree(folder, path, 1)
    agree(folder, path, 3)
