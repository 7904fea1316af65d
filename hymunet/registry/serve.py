"""The registered model as MLflow serves it. MLflow runs this file to load a version: code and safetensors alone."""

from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow.pyfunc import PythonModel, PythonModelContext

from hymunet.inference import DECIDES, Segmenter


class Served(PythonModel):
    """uint8 RGB images (N, H, W, 3) of any one size -> masks uint8 (N, H, W), 0 or 1, of that size."""

    def load_context(self, context: PythonModelContext) -> None:
        decides = {key: context.model_config[key] for key in DECIDES if key in context.model_config}
        self.segmenter = Segmenter.load(Path(context.artifacts["model"]), **decides)

    def predict(
        self, context: PythonModelContext, model_input: np.ndarray, params: dict[str, Any] | None = None
    ) -> np.ndarray:
        for number, image in enumerate(model_input):
            if image.size and not ((image > 2) & (image < 253)).any():
                raise ValueError(
                    f"image {number} holds no value from 3 to 252, so it is no photograph in whole numbers from 0 to "
                    "255; were they fractions (MLflow cuts them off): multiply those in 0..1 by 255"
                )
        masks = self.segmenter.masks(list(model_input))
        return np.stack(masks) if masks else np.empty(model_input.shape[:3], np.uint8)


mlflow.models.set_model(Served())
