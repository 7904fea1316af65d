"""The recipe on one image, by albumentations, in a loader process: what `Recipe.draw` decided, albumentations does."""

from functools import cached_property
from types import SimpleNamespace

import numpy as np

from hymunet.data.feed.augment import CHANGES, HOLE, Draws, Recipe, blur_radius, finish


class WorkerAugment:
    """image uint8 (S, S, 3), mask uint8 (S, S) -> the same, changed; imports albumentations when used."""

    def __init__(self, recipe: Recipe, seed: int) -> None:
        self.recipe, self.seed = recipe, seed

    def __call__(self, image: np.ndarray, mask: np.ndarray, epoch: int, position: int) -> tuple[np.ndarray, np.ndarray]:
        size = image.shape[0]
        draws = self.recipe.draw(self.seed, epoch, np.array([position]), size)
        return self.apply(image, mask, {name: values[0] for name, values in draws.items()})

    def apply(self, image: np.ndarray, mask: np.ndarray, draws: Draws) -> tuple[np.ndarray, np.ndarray]:
        """draws: those of one image."""
        do, shape = self._transforms, image.shape[:2]
        matrix = pixel_matrix(draws["matrices"], shape[0])
        image = do.affine.apply(image, matrix=matrix, output_shape=shape)
        mask = do.affine.apply_to_mask(mask, matrix=matrix, output_shape=shape)
        if any(name in draws for name in CHANGES):
            values = self._changed(image.astype(np.float32) * np.float32(1 / 255), draws)
            image = np.rint(values * 255).clip(0, 255).astype(np.uint8)
        return image, mask

    def _changed(self, image: np.ndarray, draws: Draws) -> np.ndarray:
        """float32 from 0 to 1: in bytes albumentations cuts fractions off at every step, which darkens."""
        do, size = self._transforms, image.shape[0]
        if {"brightness", "contrast", "saturation"} & draws.keys():
            factors = {name: float(draws.get(name, 1.0)) for name in ("brightness", "contrast", "saturation")}
            image = do.colour.apply(image, **factors, hue=0.0, order=[0, 1, 2])
        if "tint" in draws:
            image = do.tint.apply(image, multiplier=draws["tint"])
        if "gamma" in draws:
            image = do.gamma.apply(image, gamma=float(draws["gamma"]))
        if draws.get("blur", 0.0) > 0:
            image = do.blur.apply(image, kernel=_gaussian(float(draws["blur"])))
        if draws.get("noise", 0.0) > 0:
            image = do.noise.apply(image, noise_map=normals(draws["noise_keys"], size) * draws["noise"])
        if "holes" in draws and draws["holes"].any():
            image = do.holes.apply(image, holes=pixel_holes(draws["holes"], size), seed=0)
        return image

    @cached_property
    def _transforms(self) -> SimpleNamespace:
        import os

        os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else the import asks the network for news
        import albumentations
        import cv2

        cv2.setNumThreads(0)  # one loader process is one thread
        return SimpleNamespace(
            affine=albumentations.Affine(
                interpolation=cv2.INTER_LINEAR,
                mask_interpolation=cv2.INTER_NEAREST,
                border_mode=cv2.BORDER_REFLECT_101,
            ),
            colour=albumentations.ColorJitter(),
            tint=albumentations.MultiplicativeNoise(),
            gamma=albumentations.RandomGamma(),
            blur=albumentations.GaussianBlur(),
            noise=albumentations.GaussNoise(),
            holes=albumentations.CoarseDropout(fill=HOLE),
        )


def pixel_matrix(matrix: np.ndarray, size: int) -> np.ndarray:
    """`affine`'s matrix (2, 3), output to source -> (3, 3), source to output, in pixels, as OpenCV takes it."""
    centre = (size - 1) / 2
    turn = matrix[:, :2].astype(np.float64)
    to_source = np.eye(3)
    to_source[:2, :2] = turn
    to_source[:2, 2] = centre * (matrix[:, 2] + 1) - turn.sum(1) * centre
    return np.linalg.inv(to_source)


def pixel_holes(holes: np.ndarray, size: int) -> np.ndarray:
    """float (holes, 4) in parts of the side -> the pixels whose centres lie inside: int (holes, 4), ends exclusive."""
    return np.ceil(holes.astype(np.float64) * size - 0.5).astype(np.int64)


def normals(key: np.ndarray, size: int) -> np.ndarray:
    """`on_device.normals` of one image: float32 (size, size, 3)."""
    places = np.arange(1, size * size * 3 + 1, dtype=np.uint64)
    bits = finish(np.asarray(key).view(np.uint64) ^ finish(places))
    first = 1 - (bits >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)
    second = (bits & np.uint64(0xFFFFFF)).astype(np.float32) * np.float32(2.0**-24)
    values = np.sqrt(-2 * np.log(first)) * np.cos(np.float32(2 * np.pi) * second)
    return values.reshape(size, size, 3)


def _gaussian(sigma: float) -> np.ndarray:
    places = np.arange(-blur_radius(sigma), blur_radius(sigma) + 1)
    weights = np.exp(-0.5 * (places / sigma) ** 2)
    return (weights / weights.sum()).astype(np.float32)
