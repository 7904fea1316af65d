"""The prepared images that a smaller form is made with (training images) and judged on (others, with their truth)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hymunet.data.feed.dataset import Prepared
from hymunet.evaluation.cases import PreparedCases
from hymunet.evaluation.evaluate import data_and_split, prepared_cases
from hymunet.inference import Segmenter
from hymunet.portable.measure import Pair

CALIBRATION = 128  # training images


@dataclass(frozen=True)
class Images:
    """groups: of near-duplicates, one an image of `pairs`."""

    training: PreparedCases
    judged: PreparedCases
    count: int

    @property
    def groups(self) -> Sequence[str] | None:
        return None if self.judged.groups is None else self.judged.groups[: self.count]

    def calibration(self) -> Iterator[np.ndarray]:
        """uint8 RGB (S, S, 3), spread over the training set."""
        total = len(self.training.ids)
        for number in range(min(CALIBRATION, total)):
            yield self.training[number * total // min(CALIBRATION, total)].image

    def pairs(self) -> Iterator[Pair]:
        for number in range(self.count):
            case = self.judged[number]
            yield case.image, case.truth


def open_images(segmenter: Segmenter, folder: Path, split: Path, part: str, most: int | None = None) -> Images:
    """part: of the split, on which forms are judged; most: so many of its images.

    Raises ValueError where the model was trained on these images by another split, and where there are none.
    """
    prepared = Prepared(folder)
    data_and_split(segmenter, prepared, split)
    cases = prepared_cases(prepared, split)
    for name in ("train", part):
        if not cases[name].ids:
            raise ValueError(f"{split}: no image in its {name} part; smaller forms are calibrated and judged on some")
    found = len(cases[part].ids)
    return Images(cases["train"], cases[part], found if most is None else min(found, most))
