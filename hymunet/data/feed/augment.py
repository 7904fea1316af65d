"""Flips and rotation, drawn from (seed, epoch, image): the same draw in any process, in any order, after any restart.

Two implementations of one distribution: `WorkerAugment` (albumentations, one image, in a loader process) and
`device_augment` (a whole batch, on the device). Both flip horizontally and vertically with probability one half each,
then rotate by a uniform angle; the frame is continued by reflection about the border pixels.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from hymunet.images import normalise

FLIP_HORIZONTAL, FLIP_VERTICAL, ANGLE, ORDER = range(4)  # independent streams of one key
FLIP_PROBABILITY = 0.5


def keys(seed: int, epoch: int, positions: np.ndarray, stream: int | np.ndarray) -> np.ndarray:
    """64 well-mixed bits for every position and stream: uint64, the same on every machine (splitmix64, chained)."""
    key = np.zeros_like(positions, dtype=np.uint64)
    for part in (seed, epoch, stream, positions):
        key = _mix(key ^ np.asarray(part, dtype=np.uint64))
    return key


def uniform(seed: int, epoch: int, positions: np.ndarray, stream: int) -> np.ndarray:
    """float64 in [0, 1), one for every position."""
    return (keys(seed, epoch, positions, stream) >> np.uint64(11)) * 2.0**-53


def _mix(key: np.ndarray) -> np.ndarray:
    key = key + np.uint64(0x9E3779B97F4A7C15)
    key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return key ^ (key >> np.uint64(31))


class WorkerAugment:
    """image uint8 (S, S, 3), mask uint8 (S, S) -> the same, flipped and rotated; imports albumentations when used."""

    def __init__(self, rotation_degrees: float, seed: int) -> None:
        self.rotation_degrees, self.seed = rotation_degrees, seed
        self._transforms: list | None = None

    def __call__(self, image: np.ndarray, mask: np.ndarray, epoch: int, position: int) -> tuple[np.ndarray, np.ndarray]:
        if self._transforms is None:
            self._transforms = albumentations_transforms(self.rotation_degrees)
        for stream, transform in enumerate(self._transforms):
            # One by one: Compose.set_random_seed gives every transform the same stream, so that both flips would
            # always come together.
            transform.set_random_seed(int(keys(self.seed, epoch, np.array([position]), stream)[0]))
            result = transform(image=image, mask=mask)
            image, mask = result["image"], result["mask"]
        return image, mask


def albumentations_transforms(rotation_degrees: float) -> list:
    import os

    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else the import asks the network for news
    import albumentations
    import cv2

    cv2.setNumThreads(0)  # one loader process is one thread
    return [
        albumentations.HorizontalFlip(p=FLIP_PROBABILITY),
        albumentations.VerticalFlip(p=FLIP_PROBABILITY),
        albumentations.Rotate(
            limit=(-rotation_degrees, rotation_degrees),
            interpolation=cv2.INTER_LINEAR,
            mask_interpolation=cv2.INTER_NEAREST,
            border_mode=cv2.BORDER_REFLECT_101,
            p=1.0,
        ),
    ]


def draw(seed: int, epoch: int, positions: np.ndarray, rotation_degrees: float) -> tuple[np.ndarray, ...]:
    """horizontal flips (bool), vertical flips (bool), angles (degrees, counter-clockwise), one for every position."""
    horizontal = uniform(seed, epoch, positions, FLIP_HORIZONTAL) < FLIP_PROBABILITY
    vertical = uniform(seed, epoch, positions, FLIP_VERTICAL) < FLIP_PROBABILITY
    angles = (2 * uniform(seed, epoch, positions, ANGLE) - 1) * rotation_degrees
    return horizontal, vertical, angles


def affine(horizontal: np.ndarray, vertical: np.ndarray, angles: np.ndarray) -> Tensor:
    """For every image the matrix (2, 3) that leads from a place in the output to its source; float32 (B, 2, 3)."""
    radians = np.deg2rad(angles)
    cos, sin = np.cos(radians), np.sin(radians)
    flip_x, flip_y = 1 - 2.0 * horizontal, 1 - 2.0 * vertical
    rows = [[flip_x * cos, -flip_x * sin, 0 * cos], [flip_y * sin, flip_y * cos, 0 * cos]]
    return torch.from_numpy(np.stack([np.stack(row, -1) for row in rows], 1).astype(np.float32))


def device_augment(images: Tensor, masks: Tensor, matrices: Tensor) -> tuple[Tensor, Tensor]:
    """uint8 images (B, S, S, 3) and masks (B, S, S), matrices of `affine` -> normalised float32 (B, 3, S, S),
    channels-last, and float32 masks (B, 1, S, S) of 0 and 1; all on one device."""
    batch, size = images.shape[:2]
    grid = functional.affine_grid(matrices, [batch, 1, size, size], align_corners=True)
    moved = functional.grid_sample(normalise(images), grid, "bilinear", "reflection", align_corners=True)
    labels = functional.grid_sample(masks.unsqueeze(1).float(), grid, "nearest", "reflection", align_corners=True)
    return moved.contiguous(memory_format=torch.channels_last), labels


def permutation(seed: int, epoch: int, count: int) -> np.ndarray:
    """The order of an epoch's images, by sorting keys: independent of any library's generator."""
    return np.argsort(keys(seed, epoch, np.arange(count), ORDER), kind="stable")
