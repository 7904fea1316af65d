"""What happens to an image in training, drawn from (seed, epoch, image): the same draw in any process, in any order,
after any restart.

`Recipe.draw` decides; `on_device.augment` (a whole batch, on the device) and `on_workers.WorkerAugment` (one image, by
albumentations, in a loader process) do it: the same draws, and pixels that differ by rounding.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np

# Independent streams of one key.
FLIP_HORIZONTAL, FLIP_VERTICAL, ANGLE, ORDER, SCALE, ASPECT, SHIFT = range(7)
BRIGHTNESS, CONTRAST, SATURATION, TINT, GAMMA = 10, 11, 12, 13, 16
BLUR, NOISE, NOISE_KEY, SOMETIMES, HOLES = 17, 18, 19, 20, 24
FLIP_PROBABILITY = 0.5
OCCASIONALLY = 0.5  # of the images are blurred, noisy, have holes
HOLE_SIDE = (0.05, 0.2)  # of the image's side
MOST_HOLES = 16
HOLE = 0.5  # the grey of one
CHANGES = ("brightness", "contrast", "saturation", "tint", "gamma", "blur", "noise", "holes")

Draws = dict[str, np.ndarray]


def keys(seed: int, epoch: int, positions: np.ndarray, stream: int | np.ndarray) -> np.ndarray:
    """64 well-mixed bits for every position and stream: uint64, the same on every machine (splitmix64, chained)."""
    key = np.zeros_like(positions, dtype=np.uint64)
    for part in (seed, epoch, stream, positions):
        key = mix(key ^ np.asarray(part, dtype=np.uint64))
    return key


def uniform(seed: int, epoch: int, positions: np.ndarray, stream: int | np.ndarray) -> np.ndarray:
    """float64 in [0, 1), one for every position and stream."""
    return (keys(seed, epoch, positions, stream) >> np.uint64(11)) * 2.0**-53


def blur_radius(largest_sigma: float) -> int:
    return math.ceil(3 * largest_sigma)


def mix(key: np.ndarray) -> np.ndarray:
    """A step of splitmix64."""
    return finish(key + np.uint64(0x9E3779B97F4A7C15))


def finish(key: np.ndarray) -> np.ndarray:
    key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return key ^ (key >> np.uint64(31))


def permutation(seed: int, epoch: int, count: int) -> np.ndarray:
    """The order of an epoch's images, by sorting keys: independent of any library's generator."""
    return np.argsort(keys(seed, epoch, np.arange(count), ORDER), kind="stable")


@dataclass(frozen=True)
class Recipe:
    """How far each transform may go; 0 leaves it out. Flips, each with probability one half, are always there.

    In this order: flips, stretch and scale, rotation, shift (in one resampling, the frame continued by reflection about
    the border pixels); brightness, contrast, saturation, tint, gamma; blur, noise, holes. Only the first line moves the
    mask.

    rotation_degrees: uniform to either side. scale: factors from 1 / (1 + scale) to 1 + scale, even in their logarithm;
    aspect: likewise, of width to height. shift: of the side, along each axis. brightness: factor on all values;
    contrast: on their distance from the image's mean grey; saturation: from their own grey; tint: on each channel by
    itself; all uniform in 1 ± value. gamma: exponent, drawn as scale is. blur: largest sigma of a Gaussian, in pixels
    of a 256-pixel image. noise: largest standard deviation, in parts of the full range. holes: grey rectangles. The
    last three happen to every other image.
    """

    rotation_degrees: float = 0.0
    scale: float = 0.0
    aspect: float = 0.0
    shift: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    tint: float = 0.0
    gamma: float = 0.0
    blur: float = 0.0
    noise: float = 0.0
    holes: int = 0

    @classmethod
    def of(cls, train_params: Any) -> Self:
        """From the section `train`, whose keys have these names."""
        return cls(**{field.name: getattr(train_params, field.name) for field in fields(cls)})

    def draw(self, seed: int, epoch: int, positions: np.ndarray, size: int) -> Draws:
        """What happens to each image of `size` pixels: `matrices` float32 (n, 2, 3), see `affine`, and, of what is on,
        factors, exponents, `blur` in pixels of this image and `noise`, float32 (n,), `tint` (n, 3), `noise_keys` int64
        (n,), `holes` float32 (n, holes, 4): left, top, right, bottom, in parts of the side."""

        def stream(number: int) -> np.ndarray:
            return uniform(seed, epoch, positions, number)

        def around(number: int, reach: float) -> np.ndarray:
            return (2 * stream(number) - 1) * reach

        drawn: Draws = {"matrices": self._matrices(stream, around)}
        for name, number in (("brightness", BRIGHTNESS), ("contrast", CONTRAST), ("saturation", SATURATION)):
            if reach := getattr(self, name):
                drawn[name] = 1 + around(number, reach)
        if self.tint:
            drawn["tint"] = np.stack([1 + around(TINT + channel, self.tint) for channel in range(3)], -1)
        if self.gamma:
            drawn["gamma"] = np.exp(around(GAMMA, np.log1p(self.gamma)))
        reaches = (("blur", BLUR, self.largest_blur(size)), ("noise", NOISE, self.noise))
        for place, (name, number, most) in enumerate(reaches):
            if most:
                drawn[name] = np.where(stream(SOMETIMES + place) < OCCASIONALLY, stream(number) * most, 0.0)
        if self.holes:
            drawn["holes"] = self._holes(stream)
        drawn = {name: values.astype(np.float32) for name, values in drawn.items()}
        if self.noise:
            drawn["noise_keys"] = keys(seed, epoch, positions, NOISE_KEY).view(np.int64)
        return drawn

    def largest_blur(self, size: int) -> float:
        """Sigma in pixels of an image of this size."""
        return self.blur * size / 256

    def _matrices(self, stream: Callable, around: Callable) -> np.ndarray:
        horizontal, vertical = (stream(number) < FLIP_PROBABILITY for number in (FLIP_HORIZONTAL, FLIP_VERTICAL))
        scale, stretch = np.exp(around(SCALE, np.log1p(self.scale))), np.exp(around(ASPECT, np.log1p(self.aspect) / 2))
        right, down = (2 * around(SHIFT + axis, self.shift) for axis in range(2))
        angles = around(ANGLE, self.rotation_degrees)
        return affine(horizontal, vertical, angles, scale * stretch, scale / stretch, right, down)

    def _holes(self, stream: Callable) -> np.ndarray:
        low, high = HOLE_SIDE
        holes = []
        for index in range(self.holes):
            first = HOLES + 4 * index
            width, height = (low + stream(first + axis) * (high - low) for axis in range(2))
            left, top = stream(first + 2) * (1 - width), stream(first + 3) * (1 - height)
            holes.append(np.stack([left, top, left + width, top + height], -1))
        return np.stack(holes, 1) * (stream(SOMETIMES + 2) < OCCASIONALLY)[:, None, None]


def affine(
    horizontal: np.ndarray,
    vertical: np.ndarray,
    angles: np.ndarray,
    wider: np.ndarray | float = 1.0,
    taller: np.ndarray | float = 1.0,
    right: np.ndarray | float = 0.0,
    down: np.ndarray | float = 0.0,
) -> np.ndarray:
    """For every image the matrix that leads from a place in the output to its source: float64 (n, 2, 3).

    Places go from -1 to 1, between the centres of the border pixels. The source is flipped, made `wider` and `taller`
    by these factors, turned by `angles` (degrees, counter-clockwise), moved `right` and `down`.
    """
    radians = np.deg2rad(angles)
    cos, sin = np.cos(radians), np.sin(radians)
    x, y = (1 - 2.0 * horizontal) / wider, (1 - 2.0 * vertical) / taller
    rows = [[x * cos, -x * sin, -x * (cos * right - sin * down)], [y * sin, y * cos, -y * (sin * right + cos * down)]]
    return np.stack([np.stack(np.broadcast_arrays(*row), -1) for row in rows], 1)
