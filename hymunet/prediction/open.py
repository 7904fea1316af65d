"""`--model` -> a model to predict with. torch is imported for those that need it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hymunet.prediction.ensemble import Ensemble

if TYPE_CHECKING:
    from hymunet.precision import Precision
    from hymunet.prediction.model import Model


def open_models(places: Sequence[str], evaluation: Path | None = None, precision: "Precision" = "float32") -> Ensemble:
    """places: trained models' folders, models:/NAME@ALIAS or models:/NAME/VERSION. evaluation: of a single model.

    Raises ValueError when one is missing, damaged, or named twice.
    """
    if evaluation is not None and len(places) > 1:
        raise ValueError("--evaluation is of one model; an ensemble's members decide as their own evaluations did")
    twice = next((place for place in places if places.count(place) > 1), None)
    if twice:
        raise ValueError(f"--model {twice} is named twice; an ensemble is of different models")
    return Ensemble([_open(place, evaluation, precision) for place in places])


def _open(place: str, evaluation: Path | None, precision: "Precision") -> "Model":
    from hymunet.prediction.segmenter import TorchModel
    from hymunet.registry.load import open_segmenter

    segmenter, decides = open_segmenter(place, evaluation)
    return TorchModel(replace(segmenter, precision=precision), decides)
