"""From pixels to masks, in one way: what evaluation, the served model, export and the command line share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from hymunet import evidence, models
from hymunet.evidence import METRICS
from hymunet.images import check, normalise, resize
from hymunet.masks import cut
from hymunet.precision import Precision, autocast_dtype

FLIPS: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-2, -1))
BATCH_SIZE = 16
DECIDES = (
    "threshold",
    "flips",
    "largest_region",
    "temperature",
)  # what an evaluation settles and all that follows it repeats


@dataclass(frozen=True)
class Segmenter:
    """A trained model and how it decides.

    model: in evaluation mode. image_size: pixels per side that it sees. A pixel is lesion where its probability exceeds
    `threshold`; flips: averaged over the image, its mirror images and its half-turn. info: model.json. temperature: the
    logits of the probabilities are divided by it, so that they mean what they say. precision: float32, as evaluations
    are made; bf16, or auto, which takes it where the hardware has it: faster on GPUs and with AMX, and pixels next to
    the threshold may fall on its other side. largest_region: a mask is its largest region alone.
    """

    model: nn.Module
    image_size: int
    threshold: float
    flips: bool
    info: Mapping[str, Any]
    temperature: float = 1.0
    precision: Precision = "float32"
    largest_region: bool = False

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        threshold: float | None = None,
        flips: bool | None = None,
        largest_region: bool | None = None,
        temperature: float | None = None,
        device: str | torch.device | None = None,
    ) -> Segmenter:
        """From a trained model's folder. How it decides: None takes what its description says, else no flips, every
        region and a temperature of 1.

        Raises ValueError naming the file when it is missing or damaged.
        """
        model, info = models.load(folder, device or best_device())
        return cls(
            model,
            info["image_size"],
            info["threshold"] if threshold is None else threshold,
            info.get("flips", False) if flips is None else flips,
            info,
            info.get("temperature", 1.0) if temperature is None else temperature,
            largest_region=info.get("largest_region", False) if largest_region is None else largest_region,
        )

    @classmethod
    def as_tested(cls, folder: Path, evaluation: Path, device: str | torch.device | None = None) -> Segmenter:
        """From a trained model's folder, deciding as the evaluation in the folder `evaluation` did.

        Raises ValueError when that evaluation is of another model.
        """
        tested = evidence.read(evaluation / METRICS, "evaluate the model, or name its evaluation's folder")
        segmenter = cls.load(folder, device=device)
        remedy = "evaluate this model, or name its own evaluation"
        weights = segmenter.info["weights_sha256"]
        evidence.require(evaluation / METRICS, tested, "weights_sha256", folder, weights, remedy)
        return replace(segmenter, **{name: tested[name] for name in DECIDES if name in tested})

    def masks(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """uint8 RGB images (H, W, 3), each of any size -> their masks uint8 (H, W), 0 or 1, each at its image's size.

        The model sees images at its own size, as in training; its probabilities are interpolated back.
        Raises ValueError for what is no uint8 RGB image.
        """
        for image in images:
            check(image)
        result: list[np.ndarray] = []
        for start in range(0, len(images), BATCH_SIZE):
            batch = images[start : start + BATCH_SIZE]
            found = self.probabilities(np.stack([resize(image, self.image_size) for image in batch]))
            result += [self.mask(one, image.shape[:2]) for one, image in zip(found, batch, strict=True)]
        return result

    def mask(self, probability: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Probabilities (S, S) -> the mask at a size (H, W), uint8 of 0 and 1."""
        if probability.shape != shape:
            probability = cv2.resize(probability, shape[::-1], interpolation=cv2.INTER_LINEAR)
        return cut(probability, self.threshold, self.largest_region)

    @torch.inference_mode()
    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """uint8 RGB (N, S, S, 3) -> probability of lesion per pixel, float32 (N, S, S). All N at once."""
        target = next(self.model.parameters()).device
        batch = normalise(torch.from_numpy(np.array(images)).to(target))
        dtype = autocast_dtype(self.precision, target)
        with torch.autocast(target.type, dtype or torch.bfloat16, enabled=dtype is not None):
            found = _mean_over_flips(self.model, batch, FLIPS if self.flips else FLIPS[:1])
        return tempered(found, self.temperature).cpu().numpy()

    def stream(
        self, images: np.ndarray, rows: np.ndarray, progress: Callable[[int], object] = lambda count: None
    ) -> Iterator[np.ndarray]:
        """Probabilities (S, S) of `images[row]` for each of the rows, in batches: few images are in memory at a time.

        images: uint8 RGB (N, S, S, 3), such as a memory-mapped array. progress: called with each batch's size.
        """
        for start in range(0, len(rows), BATCH_SIZE):
            batch = self.probabilities(images[rows[start : start + BATCH_SIZE]])
            progress(len(batch))
            yield from batch


def tempered(probabilities: Tensor, temperature: float) -> Tensor:
    """sigmoid(logit(p) / temperature), float32; the very same numbers where the temperature is 1."""
    if temperature == 1:
        return probabilities
    return torch.sigmoid(torch.logit(probabilities, eps=1e-7) / temperature)


def best_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _mean_over_flips(model: nn.Module, batch: Tensor, flips: tuple[tuple[int, ...], ...]) -> Tensor:
    total = torch.zeros(batch.shape[0], *batch.shape[2:], device=batch.device)
    for axes in flips:
        flipped = batch.flip(axes).contiguous(memory_format=torch.channels_last) if axes else batch
        total += torch.sigmoid(model(flipped).float())[:, 0].flip(axes)
    return total / len(flips)
