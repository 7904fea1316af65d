"""The pass over the images: each is read, seen by the model, and scored in every way, while the next are on their way.

Memory holds a few images at a time; of those that are done, a row of numbers and a small picture.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

import cv2
import numpy as np
from tqdm import tqdm

from hymunet import metrics
from hymunet.evaluation import calibration
from hymunet.evaluation.appearance import appearance
from hymunet.evaluation.calibration import Histogram
from hymunet.evaluation.cases import Case, Cases
from hymunet.evaluation.confidence import soft_dice
from hymunet.evaluation.measure import image_scores
from hymunet.evaluation.thumbnails import Thumbnail, thumbnail
from hymunet.inference import BATCH_SIZE, Segmenter
from hymunet.processors import processors

FACTS = ("width", "height", "mask_area", "components", "touches_border", "dark_corners", "sha256_image", "sha256_mask")
A = TypeVar("A")
B = TypeVar("B")


@dataclass
class Scored:
    """One image: its row of numbers and facts, its pixels' share of the calibration, its picture.

    row: `id`, `metrics.SCORES` and COUNTS on the model's grid, SCORES with `native_` at the image's own size where the
    mask is known at it (else None), `confidence`, `suspicion`, and what slices are made by.
    """

    row: dict[str, Any]
    whole: Histogram
    band: Histogram
    picture: Thumbnail | None


@dataclass
class Results:
    """Of all images. problems: ids that could not be used, and why."""

    rows: list[dict[str, Any]]
    whole: Histogram
    band: Histogram
    pictures: list[Thumbnail | None]
    problems: dict[str, str]


def score(segmenter: Segmenter, cases: Cases, name: str = "test images", side: int = 0, workers: int = 0) -> Results:
    """Scores every case. side: of the pictures in pixels, 0 for none. Any number of workers gives the same."""
    results = Results([], Histogram(), Histogram(), [], {})
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with (
            ThreadPoolExecutor(workers or processors()) as pool,
            tqdm(total=len(cases.ids), desc=name, unit="image", disable=None) as bar,
        ):
            seen = _seen(segmenter, _readable(pool, cases, results.problems))
            for one in in_order(pool, lambda pair: _scored(segmenter, pair[0], pair[1], side), seen):
                bar.update()
                results.rows.append(one.row)
                results.whole.add(one.whole)
                results.band.add(one.band)
                results.pictures.append(one.picture)
    finally:
        cv2.setNumThreads(threads)
    return results


def probabilities(segmenter: Segmenter, cases: Cases, name: str) -> Iterator[tuple[Case, np.ndarray]]:
    """Each case with its probabilities (S, S), few at a time."""
    with ThreadPoolExecutor(processors()) as pool:
        bar = tqdm(_readable(pool, cases, {}), total=len(cases.ids), desc=name, unit="image", disable=None)
        yield from _seen(segmenter, bar)


def in_order(
    pool: ThreadPoolExecutor, work: Callable[[A], B], jobs: Iterable[A], ahead: int = BATCH_SIZE
) -> Iterator[B]:
    """pool.map that holds no more than `ahead` jobs at a time."""
    left = iter(jobs)
    waiting: deque[Future[B]] = deque(pool.submit(work, job) for job in islice(left, ahead))
    while waiting:
        yield waiting.popleft().result()
        waiting.extend(pool.submit(work, job) for job in islice(left, 1))


def _readable(pool: ThreadPoolExecutor, cases: Cases, problems: dict[str, str]) -> Iterator[Case]:
    def read(position: int) -> Case | str:
        try:
            return cases[position]
        except (ValueError, OSError) as error:
            return str(error)

    for id, found in zip(cases.ids, in_order(pool, read, range(len(cases.ids))), strict=True):
        if isinstance(found, Case):
            yield found
        else:
            problems[id] = found


def _seen(segmenter: Segmenter, cases: Iterable[Case]) -> Iterator[tuple[Case, np.ndarray]]:
    left = iter(cases)
    while batch := list(islice(left, BATCH_SIZE)):
        yield from zip(batch, segmenter.probabilities(np.stack([case.image for case in batch])), strict=True)


def _scored(segmenter: Segmenter, case: Case, probability: np.ndarray, side: int) -> Scored:
    mask = segmenter.mask(probability, probability.shape)
    scores = image_scores(mask, case.truth)
    sure = soft_dice(probability, mask)
    near = calibration.band(case.truth)
    row = {
        "id": case.id,
        **scores,
        **_native(segmenter, case, probability),
        "confidence": sure,
        "suspicion": max(0.0, sure - scores["dice"]),
        "megapixels": case.facts["width"] * case.facts["height"] / 1e6,
        **{name: case.facts[name] for name in FACTS},
        **appearance(case.image, case.truth),
    }
    picture = thumbnail(case.image, case.truth, mask, probability, side) if side else None
    return Scored(
        row,
        calibration.histogram(probability, case.truth),
        calibration.histogram(probability[near], case.truth[near]),
        picture,
    )


def _native(segmenter: Segmenter, case: Case, probability: np.ndarray) -> dict[str, float | None]:
    """The same scores where others compute them: probabilities interpolated to the image's size, then the threshold."""
    if case.native is None:
        return {f"{metrics.NATIVE}{name}": None for name in metrics.SCORES}
    scores = image_scores(segmenter.mask(probability, case.native.shape), case.native)
    return {f"{metrics.NATIVE}{name}": scores[name] for name in metrics.SCORES}
