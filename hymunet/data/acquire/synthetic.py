"""Procedural dermoscopy: skin, a lesion with an irregular border, hair, a ruler, a dark vignette.

For demonstrations and tests. An image depends on seed, index and size alone; numpy keeps PCG64's stream stable by
contract, and the drawing uses only its uniform and integer draws.
"""

from collections.abc import Iterator

import cv2
import numpy as np
from tqdm import tqdm

from hymunet.data.acquire.sections import Synthetic
from hymunet.data.acquire.source import ArchiveFile, Source


def draw(index: int, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """One case: image uint8 (size, size, 3) RGB and mask uint8 (size, size), 0 or 255."""
    rng = np.random.Generator(np.random.PCG64([seed, index]))
    rows, columns = np.mgrid[0:size, 0:size].astype(np.float32) / size
    skin = _skin(rng, rows, columns, size)
    signed = _lesion_shape(rng, rows, columns, size)
    mask = np.where(signed < 0, 255, 0).astype(np.uint8)
    image = _paint_lesion(rng, skin, signed, size)
    image = _draw_hair(rng, image, size)
    if rng.random() < 0.25:
        image = _draw_ruler(rng, image, size)
    if rng.random() < 0.3:
        radius = np.hypot(rows - 0.5, columns - 0.5)
        image *= np.clip((rng.uniform(0.62, 0.7) - radius) / 0.06, 0, 1)[..., None]
    image = cv2.GaussianBlur(image, (0, 0), 0.6 * size / 192) + rng.uniform(-4, 4, image.shape)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8), mask


def _noise(rng: np.random.Generator, size: int, cells: int) -> np.ndarray:
    """Smooth noise in about -1..1 with `cells` features across the image."""
    coarse = rng.uniform(-1, 1, (cells + 3, cells + 3)).astype(np.float32)
    return cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)


def _skin(rng: np.random.Generator, rows: np.ndarray, columns: np.ndarray, size: int) -> np.ndarray:
    light, dark = np.array([236, 188, 170], np.float32), np.array([150, 98, 72], np.float32)
    tone = light + (dark - light) * np.float32(rng.uniform(0, 1) ** 2)
    shade = 1 + rng.uniform(-0.12, 0.12) * (rows - 0.5) + rng.uniform(-0.12, 0.12) * (columns - 0.5)
    texture = 6 * _noise(rng, size, 6) + 4 * _noise(rng, size, 40)
    return tone * shade[..., None].astype(np.float32) + texture[..., None]


def _lesion_shape(rng: np.random.Generator, rows: np.ndarray, columns: np.ndarray, size: int) -> np.ndarray:
    """A field that is negative inside the lesion: an ellipse whose border is bent by smooth noise."""
    centre_row, centre_column = rng.uniform(0.36, 0.64, 2)
    radius, stretch, angle = rng.uniform(0.12, 0.36), rng.uniform(0.65, 1.0), rng.uniform(0, np.pi)
    across = (columns - centre_column) * np.cos(angle) + (rows - centre_row) * np.sin(angle)
    along = -(columns - centre_column) * np.sin(angle) + (rows - centre_row) * np.cos(angle)
    border = 0.16 * _noise(rng, size, 4) + 0.07 * _noise(rng, size, 12)
    return np.hypot(across, along / stretch) / radius - 1 + border * rng.uniform(0.5, 1.3)


def _paint_lesion(rng: np.random.Generator, skin: np.ndarray, signed: np.ndarray, size: int) -> np.ndarray:
    red = rng.uniform(0.3, 0.8)
    pigment = np.array([red, red * rng.uniform(0.62, 0.9), red * rng.uniform(0.55, 0.95)], np.float32)
    blotches = 0.14 * _noise(rng, size, 5) + 0.08 * _noise(rng, size, 24)
    softness = rng.uniform(0.04, 0.16)
    inside = 1 / (1 + np.exp(np.clip(signed / softness, -30, 30)))
    colour = np.clip(pigment[None, None] + blotches[..., None], 0.08, 0.95)
    return skin * (1 - inside[..., None] * (1 - colour))


def _draw_hair(rng: np.random.Generator, image: np.ndarray, size: int) -> np.ndarray:
    for _ in range(int(rng.integers(0, 18))):
        start, bend = rng.uniform(0, size, 2), rng.uniform(-0.5, 0.5, 2) * size
        end = start + rng.uniform(-0.8, 0.8, 2) * size
        t = np.linspace(0, 1, 24)[:, None]
        curve = (1 - t) ** 2 * start + 2 * t * (1 - t) * ((start + end) / 2 + bend) + t**2 * end
        shade = float(rng.uniform(20, 90))
        thickness = max(1, round(size / 192 * rng.uniform(0.6, 2.2)))
        points = np.rint(curve).astype(np.int32).reshape(-1, 1, 2)
        image = cv2.polylines(
            np.ascontiguousarray(image, np.float32), [points], False, (shade, shade * 0.8, shade * 0.7), thickness
        )
    return image


def _draw_ruler(rng: np.random.Generator, image: np.ndarray, size: int) -> np.ndarray:
    image = np.ascontiguousarray(image, np.float32)
    edge = int(size * rng.uniform(0.02, 0.08))
    for tick, position in enumerate(range(0, size, max(4, size // 24))):
        length = size // 14 if tick % 5 == 0 else size // 28
        cv2.line(image, (position, edge), (position, edge + length), (40, 40, 40), max(1, size // 190))
    return image


def members(section: Synthetic) -> Iterator[tuple[str, bytes]]:
    """Names and content for the archive: PNG files of images and masks."""
    for index in tqdm(range(section.images), desc="drawing", unit="image", disable=None):
        image, mask = draw(index, section.size, section.seed)
        for kind, pixels in (("images", image[..., ::-1]), ("masks", mask)):
            yield f"synthetic/{kind}/case_{index:05d}.png", cv2.imencode(".png", pixels)[1].tobytes()


SOURCE = Source(
    archives=(ArchiveFile("synthetic.zip"),),
    image=r"synthetic/images/(\w+)\.png",
    mask=r"synthetic/masks/(\w+)\.png",
    members=members,
)
