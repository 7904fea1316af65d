"""The exported model's probabilities are those that the evaluation calibrated, and its file says so."""

import numpy as np
import onnxruntime
import pytest
import torch

from hymunet.inference import Segmenter
from hymunet.portable.export import export

SIZE = 32


def test_logits_are_divided_by_the_temperature(tmp_path):
    torch.manual_seed(0)
    temperature = 2.5
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 1, 3, padding=1)).eval()
    segmenter = Segmenter(model, SIZE, 0.3, False, {"weights_sha256": "a" * 64}, temperature)
    export(segmenter, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    images = np.random.default_rng(1).integers(0, 256, (2, SIZE, SIZE, 3), dtype=np.uint8)
    with torch.inference_mode():
        inputs = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
        logits = model(inputs)[:, 0].double().numpy()
    (found,) = session.run(["probability"], {"images": images})
    assert found == pytest.approx(1 / (1 + np.exp(-logits / temperature)), abs=1e-5)
    assert found == pytest.approx(segmenter.probabilities(images), abs=1e-5)
    said = session.get_modelmeta().custom_metadata_map
    assert (said["temperature"], said["threshold"]) == (f"{temperature}, applied", "0.3")
