"""What perceptual hashes find of copies of images, and what they take for a copy by chance.

    python -m benchmarks.likeness data/archives/ISIC2018_Task1-2_Training_Input.zip [--prepared DIR] [--split DIR]

Prints Markdown: the bound of hymunet/registry/likeness.py on every tenth image of the archive, each against a copy of
itself, and on all images of the prepared set, each against those of other groups.
"""

import argparse
import csv
import zipfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from hymunet.data.prepare.manifest import perceptual_hash, read_manifest
from hymunet.registry.likeness import BITS, alike


def cropped(pixels: np.ndarray) -> np.ndarray:
    rows, columns = (side * 3 // 100 for side in pixels.shape[:2])
    return pixels[rows:-rows, columns:-columns]


def compressed(pixels: np.ndarray) -> np.ndarray:
    return decoded(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 50])[1])


def decoded(content: np.ndarray) -> np.ndarray:
    pixels = cv2.imdecode(content, cv2.IMREAD_COLOR)
    if pixels is None:
        raise ValueError("an image that cannot be decoded")
    return pixels


COPIES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "JPEG at quality 50": compressed,
    "half the size": lambda pixels: cv2.resize(pixels, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    "brighter by a tenth": lambda pixels: cv2.convertScaleAbs(pixels, alpha=1.1, beta=10),
    "tinted": lambda pixels: np.clip(pixels * [1.1, 1.0, 0.9], 0, 255).astype(np.uint8),
    "cropped by 3 % at each side": cropped,
    "mirrored": lambda pixels: pixels[:, ::-1],
}


def hashed(pixels: np.ndarray) -> str:
    return f"{perceptual_hash(np.ascontiguousarray(pixels)):016x}"


def main() -> None:
    parser = argparse.ArgumentParser(description="What perceptual hashes find of copies of images.")
    parser.add_argument("archive", type=Path)
    parser.add_argument("--prepared", type=Path, default=Path("data/prepared"))
    parser.add_argument("--split", type=Path, default=Path("data/split"))
    arguments = parser.parse_args()
    found: dict[str, list[bool]] = {copy: [] for copy in COPIES}
    with zipfile.ZipFile(arguments.archive) as archive:
        for name in sorted(name for name in archive.namelist() if name.endswith(".jpg"))[::10]:
            pixels = decoded(np.frombuffer(archive.read(name), np.uint8))[..., ::-1]
            for copy, make in COPIES.items():
                found[copy] += alike([hashed(pixels)], [hashed(make(pixels))]).tolist()
    print(f"| at most {BITS} of 64 bits differ | of images |\n|---|---|")
    for copy, one in found.items():
        print(f"| {copy} | {np.mean(one):.1%} |")
    with (arguments.split / "split.csv").open(newline="", encoding="utf-8") as file:
        groups = {row["id"]: row["group"] for row in csv.DictReader(file)}
    rows = read_manifest(arguments.prepared / "manifest.parquet")
    members = np.array([groups[row["id"]] for row in rows])
    hashes = np.array([row["perceptual_hash"] for row in rows])
    chance = [alike([one], hashes[members != group])[0] for one, group in zip(hashes, members, strict=True)]
    print(f"| any image of another group, of {len(rows)} | {np.mean(chance):.1%} |")


if __name__ == "__main__":
    main()
