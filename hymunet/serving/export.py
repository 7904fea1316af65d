"""The model as one ONNX file, from encoded pixels to probabilities, checked against the model itself."""

import importlib.util
import logging
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from hymunet import atomic
from hymunet.images import normalise
from hymunet.inference import Segmenter
from hymunet.models.protocols import scans

TOLERANCE = 1e-3  # of a probability
WEIGHTS_KEY = "weights_sha256"


class Portable(nn.Module):
    """uint8 RGB (B, S, S, 3) -> probability of lesion, float32 (B, S, S)."""

    def __init__(self, model: nn.Module, temperature: float = 1.0) -> None:
        super().__init__()
        self.model, self.temperature = model, temperature

    def forward(self, images: Tensor) -> Tensor:
        logits = self.model(normalise(images))
        return torch.sigmoid(logits if self.temperature == 1 else logits / self.temperature)[:, 0]


def check(output: Path) -> None:
    """Raises ValueError, before any work, for a file that cannot be written or is not ours to replace."""
    for package in ("onnx", "onnxruntime", "onnxscript"):
        if importlib.util.find_spec(package) is None:
            raise ValueError(f"{package} is not installed; the ONNX tools are an extra: pip install hymunet[export]")
    if output.is_dir():
        raise ValueError(f"{output}: is a folder; name the file to write, such as {output / 'model.onnx'}")
    if output.exists() and not _ours(output):
        raise ValueError(f"{output}: exists, and was not written by this command; name another file")
    output.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(output.parent, os.W_OK):
        raise ValueError(f"{output.parent}: is not writable; name a file elsewhere")


def export(segmenter: Segmenter, output: Path) -> float:
    """Writes the ONNX file, any batch at the model's own image size; returns the largest difference of a probability.

    segmenter: on the CPU. The file's metadata say what a user of it needs: size, colours, threshold, which model.
    Raises ValueError, and writes nothing, when ONNX Runtime does not agree with the model.
    """
    check(output)
    plain, size = replace(segmenter, flips=False), segmenter.image_size
    images = np.random.default_rng(0).integers(0, 256, (3, size, size, 3), dtype=np.uint8)
    expected = plain.probabilities(images)
    for layer in scans(plain.model):
        layer.backend = "export"
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".onnx-") as folder:
        partial = Path(folder) / output.name
        _write(Portable(plain.model, plain.temperature).eval(), images, partial)
        _describe(partial, segmenter)
        difference = max(_difference(partial, images[:count], expected[:count]) for count in (1, len(images)))
        if not difference <= TOLERANCE:
            raise ValueError(f"{output}: ONNX Runtime differs from the model by {difference:.2g}; nothing was written")
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(output)
    atomic.sync(output.parent)
    return difference


def _describe(path: Path, segmenter: Segmenter) -> None:
    """What the graph does not say: `session.get_modelmeta().custom_metadata_map` gives it back."""
    import onnx

    model = onnx.load(path)
    facts = {
        "input": f"uint8 (batch, {segmenter.image_size}, {segmenter.image_size}, 3), 0 to 255",
        "colours": "RGB",
        "image_size": str(segmenter.image_size),
        "output": "probability of lesion, float32",
        "threshold": repr(segmenter.threshold),
        "flips": str(segmenter.flips).lower(),
        "temperature": f"{segmenter.temperature!r}, applied",
        "run_key": str(segmenter.info.get("run_key", "unknown")),
        WEIGHTS_KEY: segmenter.info["weights_sha256"],
        "use": "research use only; not a medical device",
    }
    onnx.helper.set_model_props(model, facts)
    onnx.save(model, path)


def _ours(path: Path) -> bool:
    import onnx

    try:
        model = onnx.load(path, load_external_data=False)
    except Exception:  # whatever protobuf makes of a file of another kind
        return False
    return any(entry.key == WEIGHTS_KEY for entry in model.metadata_props)


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
