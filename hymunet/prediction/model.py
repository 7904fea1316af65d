"""What `predict` asks of a model: full-size probabilities, a threshold, and a name by which its results are known.

The work on an image is cut so that threads share it: `prepare` and `finish` run beside the model, on one image each;
`compute` runs the model on whatever is ready.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from hymunet.evaluation.confidence import soft_dice
from hymunet.masks import cut


class Model(Protocol):
    """threshold: a pixel is lesion where its probability exceeds it. facts: all that decides its masks, for JSON.

    flips: whether they are averaged over mirror images. largest_region: a mask is its largest region alone. decides: by
    whose authority, in words. trained_on: what `familiar.ends` says of its training images, None where that is not
    known.
    """

    threshold: float
    flips: bool
    largest_region: bool
    facts: dict[str, Any]
    decides: str
    trained_on: dict[str, Any] | None

    def prepare(self, image: np.ndarray) -> Any:
        """uint8 RGB (H, W, 3) -> what `compute` takes."""

    def compute(self, prepared: Sequence[Any]) -> list[Any]:
        """For each of a batch what `finish` takes."""

    def finish(self, computed: Any, shape: tuple[int, int]) -> np.ndarray:
        """The probabilities, float32 (H, W)."""


def identity(facts: dict[str, Any]) -> str:
    """Of a model's weights and all that decides its masks: 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Found:
    """probability: float32 (H, W); agreement: of an ensemble's members, the mean Dice of each two of their masks."""

    probability: np.ndarray
    threshold: float
    agreement: float | None = None
    largest_region: bool = False

    @cached_property
    def mask(self) -> np.ndarray:
        """uint8 (H, W) of 0 and 1."""
        return cut(self.probability, self.threshold, self.largest_region)

    @cached_property
    def confidence(self) -> float:
        return soft_dice(self.probability, self.mask)
