"""`--model` -> a model to predict with. torch is imported for those that need it."""

import gc
import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hymunet.prediction import bundled
from hymunet.prediction.ensemble import Ensemble
from hymunet.prediction.onnx_file import ENDING, OnnxModel

if TYPE_CHECKING:
    from hymunet.inference import Segmenter
    from hymunet.precision import Precision
    from hymunet.prediction.model import Model


def open_models(places: Sequence[str], evaluation: Path | None = None, precision: "Precision" = "float32") -> Ensemble:
    """places: trained models' folders, models:/NAME@ALIAS, models:/NAME/VERSION, FILE.onnx or `bundled`.

    evaluation: of one model, whose threshold and flips count.

    Raises ValueError when one is missing, damaged, or named twice.
    """
    if evaluation is not None and len(places) > 1:
        raise ValueError("--evaluation is of one model; an ensemble's members decide as their own evaluations did")
    twice = next((place for place in places if places.count(place) > 1), None)
    if twice:
        raise ValueError(f"--model {twice} is named twice; an ensemble is of different models")
    with _uncollected():
        return Ensemble([_open(place, evaluation, precision) for place in places])


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


def _open(place: str, evaluation: Path | None, precision: "Precision") -> "Model":
    if place.lower().endswith(ENDING):
        return _onnx(place, evaluation, precision)
    if importlib.util.find_spec("torch") is None:
        if place == bundled.NAME and evaluation is None:
            return OnnxModel(bundled.folder() / bundled.GRAPH)
        raise ValueError(
            f"torch is not installed; --model {place} needs it: pip install 'hymunet[torch]'; or FILE.onnx"
        )
    from hymunet.prediction.segmenter import TorchModel
    from hymunet.registry.load import open_segmenter

    if place == bundled.NAME:
        segmenter, decides = bundled_segmenter(), "the bundled model, as it was packed"
    else:
        segmenter, decides = open_segmenter(place, evaluation)
    return TorchModel(replace(segmenter, precision=precision), decides)


def bundled_segmenter(folder: Path | None = None) -> "Segmenter":
    """A packed model, as it was packed; by default the package's own."""
    from hymunet.inference import DECIDES, Segmenter

    segmenter = Segmenter.load(folder or bundled.folder())
    return replace(segmenter, **{name: segmenter.info[name] for name in DECIDES if name in segmenter.info})


def _onnx(place: str, evaluation: Path | None, precision: "Precision") -> "Model":
    if evaluation is not None or precision == "bf16":
        option = "--precision bf16" if evaluation is None else "--evaluation"
        raise ValueError(f"{option} does not go with {place}: threshold and precision are in the file; export it anew")
    return OnnxModel(Path(place))
