"""Archives like ISIC 2018's originals: layout, sizes from 1,022 to 6,708 pixels, noise of photographs, PNG masks."""

import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from hymunet.data.acquire.archives import Archive
from hymunet.data.acquire.synthetic import draw

IMAGES, MASKS = "ISIC2018_Task1-2_Training_Input", "ISIC2018_Task1_Training_GroundTruth"
Shape = tuple[int, int]  # width, height


def write_originals(folder: Path, images: int, shapes: Sequence[Shape], quality: int, distinct: int) -> int:
    """`distinct` pictures under `images` names, each file made unique by a comment; returns the archives' bytes."""
    pictures = [_encoded(index, shapes[index % len(shapes)], quality) for index in range(min(distinct, images))]
    with (
        zipfile.ZipFile(folder / f"{IMAGES}.zip", "w") as inputs,
        zipfile.ZipFile(folder / f"{MASKS}.zip", "w") as truths,
    ):
        for index in range(images):
            jpeg, png = pictures[index % len(pictures)]
            inputs.writestr(f"{IMAGES}/ISIC_{index:07}.jpg", _commented(jpeg, f"{index:07}"))
            truths.writestr(f"{MASKS}/ISIC_{index:07}_segmentation.png", png)
    names = [f"{IMAGES}.zip", f"{MASKS}.zip"]
    record = {"source": "isic2018", "archives": [{"name": name} for name in names]}
    (folder / "source.json").write_text(json.dumps(record))
    return sum((folder / name).stat().st_size for name in names)


def pairs(folder: Path) -> list[tuple[bytes, bytes]]:
    with Archive(folder / f"{IMAGES}.zip") as inputs, Archive(folder / f"{MASKS}.zip") as truths:
        return [
            (inputs.read(a), truths.read(b)) for a, b in zip(sorted(inputs.names), sorted(truths.names), strict=True)
        ]


def _encoded(index: int, shape: Shape, quality: int) -> tuple[bytes, bytes]:
    rng = np.random.default_rng(index)
    image, mask = draw(index, 512, seed=0)
    large = cv2.resize(image, shape, interpolation=cv2.INTER_CUBIC)
    noisy = np.clip(large + rng.normal(0, 3, (*shape[::-1], 1)), 0, 255).astype(np.uint8)
    jpeg, png = io.BytesIO(), io.BytesIO()
    Image.fromarray(noisy).save(jpeg, "JPEG", quality=quality)
    Image.fromarray(cv2.resize(mask, shape, interpolation=cv2.INTER_NEAREST)).save(png, "PNG")
    return jpeg.getvalue(), png.getvalue()


def _commented(jpeg: bytes, text: str) -> bytes:
    comment = text.encode()
    return jpeg[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + jpeg[2:]
