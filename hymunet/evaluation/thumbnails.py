"""Small pictures of cases for pages: a JPEG, contours as SVG paths, probabilities as a grey JPEG."""

import base64
from dataclasses import dataclass

import cv2
import numpy as np

QUALITY = 80
PROBABILITY_SIDE = 96


@dataclass(frozen=True)
class Thumbnail:
    """image, probability: `data:` addresses. truth, prediction: paths in a box of 1,000 by 1,000 units."""

    image: str
    probability: str
    truth: str
    prediction: str


def thumbnail(image: np.ndarray, truth: np.ndarray, mask: np.ndarray, probability: np.ndarray, side: int) -> Thumbnail:
    """image uint8 RGB (S, S, 3), truth and mask (S, S), probability float32 (S, S). side: of the picture, at most."""
    grey = np.rint(_shrunk(probability, min(side, PROBABILITY_SIDE)) * 255).astype(np.uint8)
    return Thumbnail(
        _jpeg(cv2.cvtColor(_shrunk(image, side), cv2.COLOR_RGB2BGR)), _jpeg(grey), outline(truth), outline(mask)
    )


def outline(mask: np.ndarray) -> str:
    """Every contour of a mask (S, S) as one SVG path, along the centres of its border pixels."""
    contours, _ = cv2.findContours((mask > 0).astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    height, width = mask.shape
    parts = []
    for contour in contours:
        points = np.rint((contour.reshape(-1, 2) + 0.5) * (1000 / width, 1000 / height)).astype(int)
        parts.append("M" + "L".join(f"{x} {y}" for x, y in points) + "Z")
    return "".join(parts)


def _shrunk(pixels: np.ndarray, side: int) -> np.ndarray:
    if pixels.shape[0] <= side:
        return pixels
    return cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA)


def _jpeg(pixels: np.ndarray) -> str:
    content = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()
    return f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"
