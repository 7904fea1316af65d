"""Forms of one model side by side on the same images: milliseconds, and what each costs in Dice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hymunet.evaluation.statistics import Estimate, paired_difference
from hymunet.prediction.ensemble import Ensemble, mask_dice

MARGIN = 0.005  # of Dice, beyond which a smaller form is not offered
RESAMPLES, SEED = 2000, 0
Pair = tuple[np.ndarray, np.ndarray]  # image uint8 RGB (H, W, 3), truth (H, W) of 0 and 1


@dataclass(frozen=True)
class Row:
    """milliseconds: of each image, from pixels to mask. difference: of Dice, less the first form's, with its interval
    over images, groups of near-duplicates drawn together; None for the first. groups: how many."""

    form: str
    milliseconds: tuple[float, ...]
    dice: float
    difference: Estimate | None
    groups: int

    def percentile(self, share: float) -> float:
        return float(np.percentile(self.milliseconds, share))

    @property
    def within(self) -> bool:
        """Whether the Dice lost is known to be less than MARGIN; of one group nothing is."""
        return self.difference is None or (self.groups > 1 and self.difference["low"] >= -MARGIN)

    def require(self, what: str) -> None:
        """Raises ValueError unless it is within the margin."""
        if not self.within:
            raise ValueError(f"{what}: as {self.form} {self.told}; that may be more than {MARGIN}; nothing was written")

    @property
    def told(self) -> str:
        if self.difference is None:
            return f"Dice {self.dice:.4f}"
        found, images = self.difference, len(self.milliseconds)
        if self.groups < 2:
            many = f"{images} images of one group" if images > 1 else "one image"
            return f"Dice {self.dice:.4f}, {found['mean']:+.5f} to float32 on {many}, which tells nothing of others"
        return (
            f"Dice {self.dice:.4f}, {found['mean']:+.5f} (95 % interval {found['low']:+.5f} to {found['high']:+.5f}) "
            f"to float32 over {images} images"
        )


def measure(
    models: Mapping[str, Ensemble],
    pairs: Iterable[Pair],
    groups: Sequence[str] | None,
    progress: Callable[[], object] = lambda: None,
) -> list[Row]:
    """Each image by each form, in turns: a busy moment meets them all. Raises ValueError without an image."""
    times: dict[str, list[float]] = {name: [] for name in models}
    scores: dict[str, list[float]] = {name: [] for name in models}
    for number, (image, truth) in enumerate(pairs):
        for name, model in models.items():
            if number == 0:
                _mask(model, image)  # what a first call sets up
            start = time.perf_counter()
            mask = _mask(model, image)
            times[name].append(1e3 * (time.perf_counter() - start))
            scores[name].append(mask_dice(mask, truth))
        progress()
    first = np.array(next(iter(scores.values())))
    if not len(first):
        raise ValueError("there is no image to compare on")
    many = len(first) if groups is None else len(set(groups))
    return [
        Row(
            name,
            tuple(times[name]),
            float(np.mean(found)),
            paired_difference(np.array(found), first, RESAMPLES, SEED, groups) if number else None,
            many,
        )
        for number, (name, found) in enumerate(scores.items())
    ]


def _mask(model: Ensemble, image: np.ndarray) -> np.ndarray:
    return model.found(model.compute([model.prepare(image)])[0], image.shape[:2]).mask
