"""`--model` -> a model to predict with. torch is imported for those that need it."""

import gc
import importlib.util
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hymunet import bundled, evidence
from hymunet.evaluation import familiar
from hymunet.prediction.ensemble import Ensemble
from hymunet.prediction.onnx_file import ENDING, WEIGHTS_KEY, OnnxModel
from hymunet.registry.load import open_segmenter, require_there

MANY = 32  # images, for which torch makes up for the time of its import
GPUS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")  # what the drivers of NVIDIA, AMD and WSL make

if TYPE_CHECKING:
    from hymunet.precision import Precision
    from hymunet.prediction.model import Model


def open_models(
    places: Sequence[str], evaluation: Path | None = None, precision: "Precision" = "float32", images: int = MANY
) -> Ensemble:
    """places: trained models' folders, models:/NAME@ALIAS, models:/NAME/VERSION, FILE.onnx or `bundled`.

    evaluation: of one model, whose threshold and flips count. images: how many are to come.

    Raises ValueError when one is missing, damaged, or named twice.
    """
    if evaluation is not None and len(places) > 1:
        raise ValueError("--evaluation is of one model; an ensemble's members decide as their own evaluations did")
    twice = next((place for place in places if places.count(place) > 1), None)
    if twice:
        raise ValueError(f"--model {twice} is named twice; an ensemble is of different models")
    for place in places:
        if place != bundled.NAME and not _is_onnx(place):
            require_there(place, evaluation)
    with _uncollected():
        members = [_open(place, evaluation, precision, images) for place in places]
    _require_weights_apart(places, members)
    return Ensemble(members)


def _require_weights_apart(places: Sequence[str], members: "Sequence[Model]") -> None:
    first: dict[str, str] = {}
    for place, member in zip(places, members, strict=True):
        weights = member.facts[WEIGHTS_KEY]
        if weights in first:
            raise ValueError(
                f"--model {place}: the same weights as {first[weights]}; an ensemble is of different models"
            )
        first[weights] = place


@contextmanager
def _uncollected() -> Iterator[None]:
    """Importing torch makes objects by the hundred thousand, which all stay; looking for garbage among them again and
    again takes a tenth of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _open(place: str, evaluation: Path | None, precision: "Precision", images: int) -> "Model":
    if _is_onnx(place):
        return _onnx(place, evaluation, precision)
    torch = importlib.util.find_spec("torch") is not None
    if place == bundled.NAME and evaluation is None and (not torch or _onnx_is_sooner(precision, images)):
        described = evidence.read(bundled.folder() / bundled.DESCRIPTION, "install the package again")
        model = OnnxModel(bundled.folder() / bundled.GRAPH, bundled.AS_PACKED)
        model.trained_on = described.get(familiar.KEY)
        return model
    if not torch:
        raise ValueError(
            f"torch is not installed; --model {place} needs it: pip install 'hymunet[torch]'; or FILE.onnx"
        )
    segmenter, decides = open_segmenter(place, evaluation)

    from hymunet.prediction.segmenter import TorchModel

    return TorchModel(replace(segmenter, precision=precision), decides)


def _is_onnx(place: str) -> bool:
    return place.lower().endswith(ENDING)


def _onnx_is_sooner(precision: "Precision", images: int) -> bool:
    """For a few images without a GPU: the answers are the same, and importing torch takes seconds."""
    gpu = any(map(os.path.exists, GPUS))
    return images < MANY and precision == "float32" and not gpu and importlib.util.find_spec("onnxruntime") is not None


def _onnx(place: str, evaluation: Path | None, precision: "Precision") -> "Model":
    if evaluation is not None or precision == "bf16":
        option = "--precision bf16" if evaluation is None else "--evaluation"
        raise ValueError(f"{option} does not go with {place}: threshold and precision are in the file; export it anew")
    return OnnxModel(Path(place))
