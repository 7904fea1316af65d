"""The registered model as MLflow serves it. MLflow runs this file to load a version: code and safetensors alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc import PythonModel, PythonModelContext

from hymunet.inference import DECIDES, Segmenter
from hymunet.registry.sent import pixels

INPUT = "image"


class Refused(MlflowException, ValueError):
    """What was sent is no image: status 400, with the reason as the message."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, INVALID_PARAMETER_VALUE)

    @property
    def message(self) -> str:
        return str(self.args[0])

    @message.setter
    def message(self, told: str) -> None:
        """The reason stays: MLflow's server would put the whole request, megabytes of it, before it."""


class Served(PythonModel):
    """Images, each as `sent.pixels` takes it -> their masks uint8 (H, W), 0 or 1, each at its image's size.

    Masks of one size are one array (N, H, W), others an array (N,) of masks.
    """

    def load_context(self, context: PythonModelContext) -> None:
        decides = {key: context.model_config[key] for key in DECIDES if key in context.model_config}
        self.segmenter = Segmenter.load(Path(context.artifacts["model"]), **decides)

    def predict(
        self,
        context: PythonModelContext,
        model_input: np.ndarray,  # or a mapping with it as INPUT; MLflow warns of hints that it cannot check
        params: dict[str, Any] | None = None,
    ) -> np.ndarray:
        sent = model_input[INPUT] if isinstance(model_input, Mapping) else model_input
        if not np.ndim(sent):
            raise Refused(
                f"the images must be a list, also where it is one image; found one {type(sent.item()).__name__}"
            )
        try:
            masks = self.segmenter.masks(pixels(sent))
        except ValueError as error:
            raise Refused(str(error)) from None
        return _array(masks) if masks else np.empty(sent.shape[:3], np.uint8)


def _array(masks: Sequence[np.ndarray]) -> np.ndarray:
    if len({mask.shape for mask in masks}) == 1:
        return np.stack(masks)
    found = np.empty(len(masks), object)
    found[:] = masks
    return found


mlflow.models.set_model(Served())
