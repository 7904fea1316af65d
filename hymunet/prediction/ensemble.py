"""Several models as one: the mean of their probabilities, and how far their masks agree."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from hymunet.evaluation import familiar
from hymunet.prediction.model import Found, Model


class Ensemble:
    """One model or more. The threshold is the mean of the members'; each takes its own temperature and flips."""

    def __init__(self, members: Sequence[Model]) -> None:
        self.members = members
        self.threshold = float(np.mean([member.threshold for member in members]))
        self.facts: dict[str, Any] = {"members": [member.facts for member in members]}
        self.flips = any(member.flips for member in members)
        self.trained_on = [member.trained_on for member in members]
        self.decides = "; ".join(dict.fromkeys(member.decides for member in members))

    def prepare(self, image: np.ndarray) -> list[Any]:
        return [member.prepare(image) for member in self.members]

    def compute(self, prepared: Sequence[list[Any]]) -> list[list[Any]]:
        columns = [
            member.compute(column) for member, column in zip(self.members, zip(*prepared, strict=True), strict=True)
        ]
        return [list(row) for row in zip(*columns, strict=True)]

    def unlike(self, image: np.ndarray, area_fraction: float) -> str:
        """As `familiar.unlike` says it, of any member's training images."""
        told = dict.fromkeys(familiar.unlike(known, image, area_fraction) for known in self.trained_on)
        beyond = [words for words in told if words not in (familiar.FAMILIAR, familiar.UNKNOWN)]
        return "; ".join(beyond) or (familiar.UNKNOWN if familiar.UNKNOWN in told else familiar.FAMILIAR)

    def found(self, computed: Sequence[Any], shape: tuple[int, int]) -> Found:
        """One member's probabilities at a time are in memory, and all members' masks."""
        if len(self.members) == 1:
            return Found(self.members[0].finish(computed[0], shape), self.threshold)
        total, masks = np.zeros(shape, np.float32), []
        for member, one in zip(self.members, computed, strict=True):
            probability = member.finish(one, shape)
            total += probability
            masks.append(probability > np.float32(member.threshold))
        total /= np.float32(len(self.members))
        return Found(total, self.threshold, _agreement(masks))


def mask_dice(one: np.ndarray, other: np.ndarray) -> float:
    """Of two masks (H, W) of 0 and 1; 1 where both are empty."""
    total = int(one.sum()) + int(other.sum())
    return 2 * int((one & other).sum()) / total if total else 1.0


def _agreement(masks: Sequence[np.ndarray]) -> float:
    return float(np.mean([mask_dice(one, other) for one, other in combinations(masks, 2)]))
