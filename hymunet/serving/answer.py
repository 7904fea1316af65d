"""What a client gets: probabilities at the image's own size, the mask, its contours and area, as PNG or JSON."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any

import cv2
import numpy as np
import simplejpeg

from hymunet.evaluation.confidence import soft_dice
from hymunet.prediction.regions import regions
from hymunet.serving.follow import Loaded
from hymunet.serving.limits import Refused

JPEG_SIDE = 65_500  # the longest that libjpeg writes


class Output(StrEnum):
    """json: contours and measures; all: the same with the three pictures in base64; mask, probability: a PNG."""

    JSON = "json"
    ALL = "all"
    MASK = "mask"
    PROBABILITY = "probability"


@dataclass(frozen=True)
class Answer:
    """probability: float32 (S, S) as the model gave it; shape: the image's (H, W).

    image: gives it, uint8 RGB (H, W, 3); asked for only where it is part of the answer, so that no pixels wait for the
    model.
    """

    loaded: Loaded
    probability: np.ndarray
    shape: tuple[int, int]
    image: Callable[[], np.ndarray]

    @cached_property
    def full(self) -> np.ndarray:
        """float32 (H, W)"""
        return cv2.resize(self.probability, self.shape[::-1], interpolation=cv2.INTER_LINEAR)

    @cached_property
    def mask(self) -> np.ndarray:
        """uint8 (H, W), 0 or 1: what Segmenter.masks gives."""
        return self.loaded.segmenter.mask(self.full, self.shape)

    def rendered(self, output: Output) -> bytes | dict[str, Any]:
        """PNG bytes (0 and 255; or probabilities times 255), or what becomes JSON."""
        if output is Output.MASK:
            return png(255 * self.mask)
        if output is Output.PROBABILITY:
            return png(np.rint(255 * self.full).astype(np.uint8))
        if output is Output.JSON:
            return self._facts()
        pictures = {"image_jpeg": jpeg(self.image())}  # first: its pixels go before the others' come
        for key, kind in (("mask_png", Output.MASK), ("probability_png", Output.PROBABILITY)):
            content = self.rendered(kind)
            assert isinstance(content, bytes)
            pictures[key] = content
        return self._facts() | {key: base64.b64encode(content).decode("ascii") for key, content in pictures.items()}

    def _facts(self) -> dict[str, Any]:
        height, width = self.shape
        area = int(self.mask.sum())
        return {
            "model": {"source": self.loaded.source, "weights_sha256": self.loaded.weights},
            "width": width,
            "height": height,
            "threshold": self.loaded.segmenter.threshold,
            "area_pixels": area,
            "area_fraction": area / (height * width),
            "confidence": soft_dice(self.full, self.mask),
            "regions": regions(self.mask),
            "use": "research use only; not a medical device",
        }


def png(pixels: np.ndarray) -> bytes:
    """Compressed as far as costs no time."""
    return cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()


def jpeg(image: np.ndarray) -> bytes:
    """uint8 RGB (H, W, 3) to look at; smaller where a side is longer than a JPEG's may be."""
    height, width = image.shape[:2]
    if max(height, width) > JPEG_SIDE:
        image = cv2.resize(image, (min(width, JPEG_SIDE), min(height, JPEG_SIDE)), interpolation=cv2.INTER_AREA)
    return simplejpeg.encode_jpeg(np.ascontiguousarray(image), 90, "RGB", "420")


def wanted(accept: str) -> Output:
    """By the header Accept: image/png is the mask, application/json and no wish at all the measures.

    Raises Refused (406) when neither is accepted.
    """
    weights: dict[str, float] = {}
    for entry in accept.split(",") if accept.strip() else ["*/*"]:
        kind, *parameters = (part.strip().lower() for part in entry.split(";"))
        quality = next((part[2:] for part in parameters if part.startswith("q=")), "1")
        try:
            weights[kind] = float(quality)
        except ValueError:
            weights[kind] = 0.0

    def weight(*kinds: str) -> float:
        return next((weights[kind] for kind in kinds if kind in weights), 0.0)

    json, picture = weight("application/json", "application/*", "*/*"), weight("image/png", "image/*", "*/*")
    if max(json, picture) <= 0:
        raise Refused(406, "an answer is application/json or image/png; Accept allows neither")
    return Output.MASK if picture > json else Output.JSON
