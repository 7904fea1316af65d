"""The model as one ONNX file, from encoded pixels to probabilities, checked against the model itself."""

import logging
import os
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from hymunet import inference, models
from hymunet.images import normalise
from hymunet.models.protocols import scans

TOLERANCE = 1e-3  # of a probability


class Portable(nn.Module):
    """uint8 RGB (B, S, S, 3) -> probability of lesion, float32 (B, S, S)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return torch.sigmoid(self.model(normalise(images)))[:, 0]


def export(model_folder: Path, output: Path) -> float:
    """Writes the ONNX file, any batch at the model's own image size; returns the largest difference of a probability.

    Raises ValueError, and writes nothing, when ONNX Runtime does not agree with the model.
    """
    model, info = models.load(model_folder)
    size = info["image_size"]
    images = np.random.default_rng(0).integers(0, 256, (3, size, size, 3), dtype=np.uint8)
    expected = inference.probabilities(model, images)
    for layer in scans(model):
        layer.backend = "export"
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".onnx-") as folder:
        partial = Path(folder) / output.name
        _write(Portable(model).eval(), images, partial)
        difference = max(_difference(partial, images[:count], expected[:count]) for count in (1, len(images)))
        if not difference <= TOLERANCE:
            raise ValueError(f"{output}: ONNX Runtime differs from the model by {difference:.2g}; nothing was written")
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(output)
    return difference


def _write(model: nn.Module, images: np.ndarray, path: Path) -> None:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it tells of operators that we do not use
    torch.onnx.export(
        model,
        (torch.from_numpy(images),),
        path,
        input_names=["images"],
        output_names=["probabilities"],
        dynamic_shapes={"images": {0: torch.export.Dim("batch", min=1)}},
        dynamo=True,
        external_data=False,
        verbose=False,
    )


def _difference(path: Path, images: np.ndarray, expected: np.ndarray) -> float:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return float(np.abs(session.run(None, {"images": images})[0] - expected).max())
