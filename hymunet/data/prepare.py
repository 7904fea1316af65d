"""Decodes every pair once, resizes it and writes memory-mapped arrays with a manifest.

Images: RGB, area-averaged down. Masks: binarised above the source's threshold, nearest neighbour. Work is spread over
processes in fixed blocks, each written to its own rows, so the bytes do not depend on how many there are.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from hymunet import atomic
from hymunet.data.archives import Archive
from hymunet.data.manifest import facts, write_manifest
from hymunet.data.sources import SOURCES, Pair

BLOCK = 32  # pairs per task


def prepare(raw: Path, output: Path, image_size: int, on_bad_pair: str, workers: int | None = None) -> None:
    """Writes `images.npy`, `masks.npy`, `manifest.parquet` and `prepare.json` into `output`.

    Raises ValueError naming every bad pair (up to ten in full) unless on_bad_pair is 'drop', which leaves them out on
    record; and when no pair is left.
    """
    source_name, archives = _read_source(raw)
    pairs = find_pairs(source_name, [raw / name for name in archives])
    if not pairs:
        raise ValueError(f"{raw}: no image of source {source_name} in {', '.join(archives)}")
    output.mkdir(parents=True, exist_ok=True)
    partial = [output / f"{kind}.npy.tmp" for kind in ("images", "masks")]
    images = _create(partial[0], (len(pairs), image_size, image_size, 3))
    masks = _create(partial[1], (len(pairs), image_size, image_size))
    rows, problems = _decode_all(raw, source_name, pairs, images, masks, image_size, workers)
    if problems and on_bad_pair == "stop":
        _remove(partial)
        shown = "; ".join(f"{id}: {reason}" for id, reason in list(problems.items())[:10])
        more = f"; and {len(problems) - 10} more" if len(problems) > 10 else ""
        raise ValueError(
            f"{raw}: {len(problems)} of {len(pairs)} pairs cannot be used: {shown}{more}. "
            "Mend them, or set prepare.on_bad_pair to drop"
        )
    kept = [index for index, row in enumerate(rows) if row is not None]
    if not kept:
        _remove(partial)
        raise ValueError(f"{raw}: none of {len(pairs)} pairs can be used; the first: {next(iter(problems.values()))}")
    if len(kept) < len(pairs):
        images, masks = _compact(images, kept, partial[0]), _compact(masks, kept, partial[1])
    digest = hashlib.sha256()
    for array, path, name in zip((images, masks), partial, ("images.npy", "masks.npy"), strict=True):
        array.flush()
        digest.update(_sha256(path).encode())
        path.replace(output / name)
    write_manifest([row for row in rows if row is not None], output / "manifest.parquet")
    record = {
        "source": source_name,
        "image_size": image_size,
        "images": len(kept),
        "dropped": problems,
        "sha256": digest.hexdigest(),
    }
    atomic.write(output / "prepare.json", json.dumps(record, indent=2, sort_keys=True) + "\n")


def find_pairs(source_name: str, archives: Iterable[Path]) -> list[Pair]:
    """Every image or mask of the source, paired by id and sorted by it."""
    members = {}
    for path in archives:
        with Archive(path) as archive:
            members[path.name] = archive.names
    return SOURCES[source_name].pairs(members)


def decode_pair(image: bytes, mask: bytes, threshold: int, size: int) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Encoded bytes -> image uint8 (size, size, 3), mask uint8 (size, size) of 0 and 1, facts at native size.

    Raises ValueError saying what is wrong with the pair.
    """
    pixels = _decode(image, cv2.IMREAD_COLOR_RGB, "image")
    grey = _decode(mask, cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION, "mask")
    if pixels.shape[:2] != grey.shape:
        pixels = _decode(image, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION, "image")
    if pixels.shape[:2] != grey.shape:
        raise ValueError(f"image is {pixels.shape[1]}×{pixels.shape[0]}, mask {grey.shape[1]}×{grey.shape[0]}")
    binary = (grey > threshold).astype(np.uint8)
    if binary.min() == binary.max():
        raise ValueError(f"mask is {'all lesion' if binary.max() else 'empty'}")
    shrinks = min(grey.shape) >= size
    small = cv2.resize(pixels, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    small_mask = cv2.resize(binary, (size, size), interpolation=cv2.INTER_NEAREST_EXACT)
    return small, small_mask, facts(image, mask, pixels, binary)


def _decode(content: bytes, flags: int, what: str) -> np.ndarray:
    if not content:
        raise ValueError(f"{what} is an empty file")
    _refuse_truncated(content, what)
    try:
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error as error:
        raise ValueError(f"{what} cannot be decoded ({str(error).splitlines()[0]})") from None
    if pixels is None:
        raise ValueError(f"{what} is not an image that can be decoded")
    return pixels


def _refuse_truncated(content: bytes, what: str) -> None:
    """OpenCV fills what is missing of a cut JPEG or PNG with grey; their end markers tell."""
    if content[:3] == b"\xff\xd8\xff" and b"\xff\xd9" not in content[-1024:]:
        raise ValueError(f"{what} is a truncated JPEG")
    if content[:4] == b"\x89PNG" and b"IEND" not in content[-64:]:
        raise ValueError(f"{what} is a truncated PNG")


def _decode_all(
    raw: Path, source_name: str, pairs: list[Pair], images: np.memmap, masks: np.memmap, size: int, workers: int | None
) -> tuple[list[dict[str, Any] | None], dict[str, str]]:
    rows: list[dict[str, Any] | None] = [None] * len(pairs)
    problems: dict[str, str] = {}
    blocks = [(start, pairs[start : start + BLOCK]) for start in range(0, len(pairs), BLOCK)]
    workers = workers or os.cpu_count() or 1
    with (
        ProcessPoolExecutor(workers, initializer=_start_worker, initargs=(raw, source_name, size)) as pool,
        tqdm(total=len(pairs), desc="decoding", unit="image", disable=None) as bar,
    ):
        for start, results in pool.map(_decode_block, blocks):
            for index, (pair, result) in enumerate(zip(pairs[start : start + BLOCK], results, strict=True), start):
                if isinstance(result, str):
                    problems[pair.id] = result
                else:
                    images[index], masks[index], rows[index] = result[0], result[1], {"id": pair.id, **result[2]}
            bar.update(len(results))
    return rows, problems


_worker: dict[str, Any] = {}


def _start_worker(raw: Path, source_name: str, size: int) -> None:
    cv2.setNumThreads(1)
    _worker.update(raw=raw, source=SOURCES[source_name], size=size, archives={})


def _decode_block(block: tuple[int, list[Pair]]) -> tuple[int, list[Any]]:
    start, pairs = block
    return start, [_decode_one(pair) for pair in pairs]


def _decode_one(pair: Pair) -> Any:
    if pair.image is None or pair.mask is None:
        return f"no {'image' if pair.image is None else 'mask'}"
    try:
        image, mask = (_archive(name).read(member) for name, member in (pair.image, pair.mask))
        return decode_pair(image, mask, _worker["source"].mask_threshold, _worker["size"])
    except ValueError as error:
        return str(error)


def _archive(name: str) -> Archive:
    if name not in _worker["archives"]:
        _worker["archives"][name] = Archive(_worker["raw"] / name)
    return _worker["archives"][name]


def _read_source(raw: Path) -> tuple[str, list[str]]:
    try:
        record = json.loads((raw / "source.json").read_text())
        return record["source"], [archive["name"] for archive in record["archives"]]
    except (OSError, json.JSONDecodeError, KeyError, TypeError):
        raise ValueError(f"{raw / 'source.json'}: missing or unreadable; run the download step first") from None


def _create(path: Path, shape: tuple[int, ...]) -> np.memmap:
    return np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)


def _compact(array: np.memmap, kept: list[int], path: Path) -> np.memmap:
    smaller = path.with_name(f"{path.name}2")
    result = _create(smaller, (len(kept), *array.shape[1:]))
    for target, index in enumerate(kept):
        result[target] = array[index]
    smaller.replace(path)
    return result


def _remove(paths: list[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
