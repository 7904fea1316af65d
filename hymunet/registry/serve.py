"""The registered model as MLflow serves it. MLflow runs this file to load a version: code and safetensors alone."""

from typing import Any

import mlflow
import numpy as np
from mlflow.pyfunc import PythonModel, PythonModelContext

from hymunet import inference, models


class Segmenter(PythonModel):
    """uint8 RGB images (N, H, W, 3) of any one size -> masks uint8 (N, H, W), 0 or 1, of that size."""

    def load_context(self, context: PythonModelContext) -> None:
        self.model, info = models.load(context.artifacts["model"], inference.device())
        self.image_size = info["image_size"]
        self.threshold, self.flips = (context.model_config[key] for key in ("threshold", "flips"))

    def predict(
        self, context: PythonModelContext, model_input: np.ndarray, params: dict[str, Any] | None = None
    ) -> np.ndarray:
        masks = inference.segment(self.model, list(model_input), self.image_size, self.threshold, self.flips)
        return np.stack(masks) if masks else np.empty(model_input.shape[:3], np.uint8)


mlflow.models.set_model(Segmenter())
