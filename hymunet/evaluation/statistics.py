"""How sure a mean over test images is: the percentile bootstrap over images."""

from typing import TypedDict

import numpy as np

LEVEL = 0.95


class Estimate(TypedDict):
    """A mean and its 95 % confidence interval."""

    mean: float
    low: float
    high: float


def bootstrap(values: np.ndarray, resamples: int, seed: int) -> list[Estimate]:
    """values (images, k) -> one estimate per column; all columns share the resamples. At least one image.

    The interval holds the middle 95 % of the means of `resamples` draws of the images with replacement.
    """
    values = np.asarray(values, np.float64)
    count = len(values)
    if not count:
        raise ValueError("no image to average over")
    rng = np.random.default_rng(seed)
    means = np.empty((resamples, values.shape[1]))
    block = max(1, 4_000_000 // count)
    for start in range(0, resamples, block):
        drawn = rng.integers(count, size=(min(block, resamples - start), count))
        for column in range(values.shape[1]):
            means[start : start + len(drawn), column] = values[drawn, column].mean(1)
    tail = (1 - LEVEL) / 2
    lows, highs = np.quantile(means, [tail, 1 - tail], axis=0)
    return [
        Estimate(mean=float(mean), low=float(low), high=float(high))
        for mean, low, high in zip(values.mean(0), lows, highs, strict=True)
    ]


def paired_difference(ours: np.ndarray, theirs: np.ndarray, resamples: int, seed: int) -> Estimate:
    """Mean of ours - theirs over the same images, each (images,)."""
    if ours.shape != theirs.shape:
        raise ValueError(f"scores of {len(ours)} and of {len(theirs)} images cannot be paired")
    return bootstrap((np.asarray(ours) - np.asarray(theirs))[:, None], resamples, seed)[0]
