"""What becomes of the scores when images come out differently: turned, lighter, blurred, compressed, hairy, coarse."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np

from hymunet.evaluation.cases import Case, Cases, GroupedBy
from hymunet.evaluation.score import probabilities
from hymunet.evaluation.statistics import Groups, paired_difference
from hymunet.inference import Segmenter
from hymunet.metrics import COUNTS, overlap_scores

Change = Callable[[np.ndarray], np.ndarray]


def _light(factor: float) -> Change:
    return lambda image: np.clip(np.rint(image * factor), 0, 255).astype(np.uint8)


def _contrast(factor: float) -> Change:
    def change(image: np.ndarray) -> np.ndarray:
        mean = image.mean((0, 1), keepdims=True)
        return np.clip(np.rint(mean + (image - mean) * factor), 0, 255).astype(np.uint8)

    return change


def _hue(degrees: float) -> Change:
    def change(image: np.ndarray) -> np.ndarray:
        hsv = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2HSV)
        hsv[..., 0] = (hsv[..., 0] + degrees) % 360
        return np.rint(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB) * 255).astype(np.uint8)

    return change


def _blur(share: float) -> Change:
    return lambda image: cv2.GaussianBlur(image, (0, 0), share * len(image))


def _jpeg(quality: int) -> Change:
    def change(image: np.ndarray) -> np.ndarray:
        content = cv2.imencode(".jpg", np.ascontiguousarray(image[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        return np.asarray(cv2.imdecode(content, cv2.IMREAD_COLOR_RGB))

    return change


def _coarse(factor: int) -> Change:
    def change(image: np.ndarray) -> np.ndarray:
        small = cv2.resize(image, None, fx=1 / factor, fy=1 / factor, interpolation=cv2.INTER_AREA)
        return cv2.resize(small, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)

    return change


def _hair(image: np.ndarray) -> np.ndarray:
    """Twelve dark, bent hairs, the same on every image."""
    rng = np.random.Generator(np.random.PCG64(0))
    result, side = np.ascontiguousarray(image).copy(), len(image)
    along = np.linspace(0, 1, 24)[:, None]
    for _ in range(12):
        start, end, bend = rng.uniform(0, side, 2), rng.uniform(0, side, 2), rng.uniform(-0.2, 0.2, 2) * side
        curve = (1 - along) * start + along * end + 4 * along * (1 - along) * bend
        shade = int(rng.integers(20, 70))
        cv2.polylines(
            result, [np.rint(curve).astype(np.int32)], False, (shade, shade, shade), max(1, side // 160), cv2.LINE_AA
        )
    return result


def _turned(turn: Callable[[np.ndarray], np.ndarray]) -> Change:
    return lambda pixels: np.ascontiguousarray(turn(pixels))


MOVES: dict[str, Change] = {  # image and truth alike
    "mirrored left to right": _turned(np.fliplr),
    "mirrored top to bottom": _turned(np.flipud),
    "turned by 90°": _turned(np.rot90),
    "turned by 180°": _turned(lambda pixels: np.rot90(pixels, 2)),
}
LOOKS: dict[str, Change] = {  # the image alone
    "30 % darker": _light(0.7),
    "30 % lighter": _light(1.3),
    "40 % less contrast": _contrast(0.6),
    "40 % more contrast": _contrast(1.4),
    "hue turned by +15°": _hue(15),
    "hue turned by -15°": _hue(-15),
    "blurred (sigma 1 % of the side)": _blur(0.01),
    "JPEG quality 30": _jpeg(30),
    "JPEG quality 10": _jpeg(10),
    "hair added": _hair,
    "half the resolution": _coarse(2),
    "a quarter of the resolution": _coarse(4),
}


@dataclass(frozen=True)
class Shifted:
    """Cases seen through a change."""

    cases: Cases
    change: Change
    truth_too: bool

    @property
    def ids(self) -> Sequence[str]:
        return self.cases.ids

    @property
    def groups(self) -> Sequence[str] | None:
        return self.cases.groups

    @property
    def grouped_by(self) -> GroupedBy | None:
        return self.cases.grouped_by

    @property
    def source(self) -> str:
        return self.cases.source

    def __getitem__(self, position: int) -> Case:
        case = self.cases[position]
        truth = self.change(case.truth) if self.truth_too else case.truth
        return replace(case, image=self.change(case.image), truth=truth, native=None)


def shifts(
    segmenter: Segmenter, cases: Cases, rows: Sequence[dict[str, Any]], resamples: int, seed: int, groups: Groups
) -> list[dict[str, Any]]:
    """For each change the mean Dice under it, and the difference to the Dice without, over the same images.

    rows: of the unchanged images, in the order of the cases.
    """
    before = {row["id"]: row["dice"] for row in rows}
    result = []
    for table, truth_too in ((MOVES, True), (LOOKS, False)):
        for name, change in table.items():
            found = {
                case.id: _dice(segmenter, case, probability)
                for case, probability in probabilities(segmenter, Shifted(cases, change, truth_too), name)
            }
            pair = np.array([[found[id], before[id]] for id in before])
            difference = paired_difference(pair[:, 0], pair[:, 1], resamples, seed, groups)
            result.append({"shift": name, "dice": float(pair[:, 0].mean()), "difference": difference})
    return result


def _dice(segmenter: Segmenter, case: Case, probability: np.ndarray) -> float:
    mask, truth = segmenter.mask(probability, probability.shape) > 0, case.truth > 0
    overlap = np.count_nonzero(mask & truth)
    numbers = (overlap, mask.sum() - overlap, truth.sum() - overlap, np.count_nonzero(~(mask | truth)))
    return overlap_scores(**dict(zip(COUNTS, map(int, numbers), strict=True)))["dice"]
