"""A file that `hymunet export` wrote, in ONNX Runtime and without torch."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np

from hymunet import images
from hymunet.evaluation import familiar
from hymunet.processors import threads_wanted

WEIGHTS_KEY = "weights_sha256"
ENDING = ".onnx"
LARGE = 10_000_000  # pixels
_INPUT, _OUTPUTS = "images", ["mask", "probability", "confidence"]


def runtime() -> ModuleType:
    """ONNX Runtime, its telemetry off: at its import, version 1.32 opens a store of events in the home folder, which
    are sent to its makers. Raises ValueError where it is not installed.
    """
    if importlib.util.find_spec("onnxruntime") is None:
        raise ValueError("onnxruntime is not installed; FILE.onnx needs it: pip install 'hymunet[onnx]'")
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    return onnxruntime


class OnnxModel:
    """Takes images at their own size. Raises ValueError for a file that is missing, damaged or of another kind.

    decides: by whose authority, in words; the file's by default.
    """

    def __init__(self, path: Path, decides: str = "") -> None:
        onnxruntime = runtime()
        if not path.is_file():
            raise ValueError(f"{path}: no such file; write one with hymunet export")
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = threads_wanted()
        settings.log_severity_level = 3
        try:
            self.session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
        except Exception as error:  # its errors have no common base
            reason = " ".join(str(error).split())[:200]
            raise ValueError(f"{path}: not a readable ONNX model ({reason}); export it again") from None
        told = self.session.get_modelmeta().custom_metadata_map
        names = [one.name for one in (*self.session.get_inputs(), *self.session.get_outputs())]
        if WEIGHTS_KEY not in told or names != [_INPUT, *_OUTPUTS]:
            raise ValueError(f"{path}: was not written by hymunet export, or by an earlier one; export the model again")
        try:
            self.threshold, self.flips = float(told["threshold"]), told["flips"].startswith("true")
            self.trained_on = json.loads(told.get(familiar.KEY, "null"))
        except (KeyError, ValueError) as error:
            raise ValueError(f"{path}: its metadata were changed ({error}); export the model again") from None
        self.largest_region = told.get("largest_region", "").startswith("true")
        self.decides = decides or f"as {path} says"
        keys = (WEIGHTS_KEY, "threshold", "flips", "largest_region", "temperature", "format")
        self.facts = {key: told.get(key, "") for key in keys}
        self.facts["runtime"] = "onnx"

    def run(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        """uint8 RGB (H, W, 3) -> mask uint8 (H, W) of 0 and 1, probabilities float32 (H, W), confidence."""
        mask, probability, confidence = self.session.run(_OUTPUTS, {_INPUT: image[None]})
        return mask[0], probability[0], float(confidence[0])

    def prepare(self, image: np.ndarray) -> np.ndarray:
        images.check(image)
        return np.ascontiguousarray(image)

    def compute(self, prepared: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [self._probability(image) for image in prepared]

    def _probability(self, image: np.ndarray) -> np.ndarray:
        """Of a large image the memory is given back at once: what comes after it needs as much again."""
        options = runtime().RunOptions()
        if image.size > 3 * LARGE:
            options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        return self.session.run(["probability"], {_INPUT: image[None]}, options)[0][0]

    def finish(self, computed: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        return computed
