"""Image files to mask and overlay files, each at its image's own size."""

import struct
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from hymunet import atomic, images
from hymunet.evaluation.pictures import overlay
from hymunet.inference import Segmenter

KINDS = ("mask", "overlay")
MARK = b"tEXtSoftware\0hymunet predict"  # a PNG's own remark on who wrote it
SHOWN = 10


def check(paths: Sequence[Path], output: Path) -> None:
    """Raises ValueError, before any work, when an image is missing or a file that is not ours would be overwritten."""
    twice = [name for name, count in Counter(path.stem.casefold() for path in paths).items() if count > 1]
    if twice:
        same = [str(path) for path in paths if path.stem.casefold() == twice[0]]
        raise ValueError(f"two images are named {twice[0]} ({', '.join(same)}); their masks would overwrite each other")
    _refuse([str(path) for path in paths if not path.is_file()], "not there, or no file")
    if output.exists() and not output.is_dir():
        raise ValueError(f"{output}: is no folder; name one with --output")
    existing = [target for path in paths for target in targets(path, output).values() if target.exists()]
    foreign = [str(target) for target in existing if not _ours(target)]
    _refuse(foreign, "there already and not written by this command; name another folder with --output")


def predict(segmenter: Segmenter, paths: Sequence[Path], output: Path) -> int:
    """Writes NAME_mask.png (0 and 255) and NAME_overlay.png for every image; returns how many.

    Images that cannot be read are named together in a ValueError, after the others are written.
    """
    check(paths, output)
    problems = []
    for path in tqdm(paths, unit="image", disable=None):
        try:
            image = images.read(path)
        except (ValueError, OSError) as error:
            problems.append(str(error))
            continue
        (mask,) = segmenter.masks([image])
        pictures = {"mask": 255 * mask, "overlay": cv2.cvtColor(overlay(image, mask), cv2.COLOR_RGB2BGR)}
        for kind, target in targets(path, output).items():
            atomic.write(target, _png(pictures[kind]))
    if problems:
        shown = "; ".join(problems[:SHOWN])
        more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise ValueError(f"{len(problems)} of {len(paths)} images cannot be read: {shown}{more}")
    return len(paths)


def targets(path: Path, output: Path) -> dict[str, Path]:
    return {kind: output / f"{path.stem}_{kind}.png" for kind in KINDS}


def _refuse(names: list[str], reason: str) -> None:
    if names:
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        raise ValueError(f"{', '.join(names[:SHOWN])}{more}: {reason}")


def _png(pixels: np.ndarray) -> bytes:
    """With our mark behind the head, which takes 33 bytes in every PNG."""
    content = cv2.imencode(".png", pixels)[1].tobytes()
    remark = struct.pack(">I", len(MARK) - 4) + MARK + struct.pack(">I", zlib.crc32(MARK))
    return content[:33] + remark + content[33:]


def _ours(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return MARK in file.read(33 + 4 + len(MARK))
