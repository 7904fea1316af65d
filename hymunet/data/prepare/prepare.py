"""Decodes every pair once, resizes it and writes memory-mapped arrays with a manifest.

Images: RGB, area-averaged down. Masks: binarised by the source's rule, nearest neighbour. Threads (whatever takes long
lets go of the interpreter) write each pair to its own row, so that the bytes do not depend on how many there are.
"""

import hashlib
import json
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np
from tqdm import tqdm

from hymunet import atomic
from hymunet.data.acquire import listing
from hymunet.data.acquire.archives import Archive
from hymunet.data.acquire.pairs import Pair, described
from hymunet.data.acquire.source import Source
from hymunet.data.acquire.sources import SOURCES
from hymunet.data.prepare.bad_pairs import LIST, known_place, require_few, without_lesion
from hymunet.data.prepare.decode import VIEW, decode_pair
from hymunet.data.prepare.groups import GROUPS, write_groups
from hymunet.data.prepare.manifest import write_manifest
from hymunet.data.prepare.native import NATIVE_MASKS, NativeMasks, encoded
from hymunet.data.prepare.orientation import Read, drawn_on
from hymunet.places import named
from hymunet.processors import processors

ARRAYS = ("images", "masks", "lesions")
MANIFEST, RECORD = "manifest.parquet", "prepare.json"
_Result = tuple[dict[str, Any], bytes] | str  # facts and the mask at its own size as a file, or what is wrong


def prepare(
    raw: Path,
    output: Path,
    image_size: int,
    on_bad_pair: str,
    workers: int | None = None,
    max_dropped: float = 1.0,
    masks_on: str = "auto",
    max_without_lesion: float = 0.0,
    own: Path | None = None,
) -> None:
    """Writes `images.npy`, `masks.npy`, `lesions.npy` (`decode.lesion_view`), `native_masks.zip` (`native`),
    `manifest.parquet` and `prepare.json`; `groups.csv` where the source has groups.

    own: the folder that the images came from, which messages name where it holds them. Raises ValueError naming every
    bad pair (ten of them; more are in `bad_pairs.csv`) unless on_bad_pair is 'drop', which leaves them out on record;
    when they are more than the part max_dropped of all; and when no pair is left. An empty mask is a bad pair where
    max_without_lesion is 0; else so many of all at most are images without a lesion, and not all of those left.
    """
    source_name, archives, official = _read_source(raw)
    source = SOURCES[source_name]
    pairs = find_pairs(source_name, [raw / name for name in archives])
    if not pairs:
        raise ValueError(_nothing_found(source_name, raw, archives))
    place = known_place(raw, own, source, pairs)
    listed = _listed(source, [raw / name for name in archives], pairs, place)
    splits = {pair.id: source.official_split(pair.image[0]) if official and pair.image else "" for pair in pairs}
    splits |= {id: entry.split for id, entry in listed.items()}
    output.mkdir(parents=True, exist_ok=True)
    (output / LIST).unlink(missing_ok=True)
    partial = {name: output / f".{name}.npy.tmp" for name in ARRAYS}
    masks = output / ".native_masks.zip.tmp"
    try:
        with named(output):
            for name, shape in _shapes(len(pairs), image_size).items():
                _allocate(partial[name], shape)
        way = masks_drawn_on(raw, source, pairs) if masks_on == "auto" else masks_on
        with named(output), NativeMasks(masks) as native:
            workers = workers or processors()
            decoder = _Decoder(raw, source, partial, image_size, way, max_without_lesion > 0)
            rows, problems = _decode_all(decoder, pairs, native, workers)
        require_few(place, source, pairs, problems, on_bad_pair, max_dropped, output / RECORD)
        kept = [index for index, row in enumerate(rows) if row is not None]
        empty = [row["id"] for row in rows if row is not None and row["mask_area"] == 0]
        without = without_lesion(place, source, pairs, empty, len(kept), max_without_lesion)
        with named(output):
            for path in partial.values():
                _compact(path, kept)
        digest = hashlib.sha256("".join(_sha256(partial[name]) for name in ("images", "masks")).encode()).hexdigest()
        for told in (MANIFEST, RECORD, GROUPS):  # of other arrays: stopped from here on, they would speak of these
            (output / told).unlink(missing_ok=True)
        for name, path in partial.items():
            path.replace(output / f"{name}.npy")
        masks.replace(output / NATIVE_MASKS)
    finally:
        masks.unlink(missing_ok=True)
        for path in partial.values():
            path.unlink(missing_ok=True)
            _smaller(path).unlink(missing_ok=True)
    manifest = [{**row, "official_split": splits[row["id"]]} for row in rows if row is not None]
    if any(entry.group for entry in listed.values()):
        write_groups({row["id"]: listed[row["id"]].group for row in manifest}, output / GROUPS)
    write_manifest(manifest, output / MANIFEST)
    record = {
        "source": source_name,
        "image_size": image_size,
        "images": len(kept),
        "dropped": problems,
        "sha256": digest,
        **({"without_lesion": without} if without else {}),
    }
    atomic.write(output / RECORD, json.dumps(record, indent=2, sort_keys=True) + "\n")


def find_pairs(source_name: str, archives: Iterable[Path]) -> list[Pair]:
    """Every image or mask of the source, paired by id and sorted by it."""
    members = {}
    for path in archives:
        with Archive(path) as archive:
            members[path.name] = archive.names
    return SOURCES[source_name].pairs(members)


def _listed(source: Source, archives: Iterable[Path], pairs: list[Pair], place: Path) -> dict[str, listing.Entry]:
    """What the source's listing says of each pair; nothing where it has none. place: the folder that errors name."""
    for path in archives:
        with Archive(path) as archive:
            if source.listing in archive.names:
                return listing.read(archive.read(source.listing), pairs, place / source.shown(source.listing))
    return {}


def masks_drawn_on(raw: Path, source: Source, pairs: Iterable[Pair], program: str = "prepare") -> str | None:
    """As `orientation.drawn_on`, of pairs that lie in the archives below `raw`."""
    with ExitStack() as stack:
        archives: dict[str, Archive] = {}

        def reading(archive: str, member: str) -> Read:
            def read(count: int) -> bytes:
                if archive not in archives:
                    archives[archive] = stack.enter_context(Archive(raw / archive))
                return archives[archive].read(member, count)

            return read

        whole = (pair for pair in pairs if not pair.problem)
        files = ((reading(*pair.image), reading(*pair.mask)) for pair in whole if pair.image and pair.mask)
        return drawn_on(files, program, source.mask_threshold)


def _nothing_found(source_name: str, raw: Path, archives: list[str]) -> str:
    names: list[str] = []
    for name in archives:
        with Archive(raw / name) as archive:
            names += archive.names
    return f"{raw}: no image of source {source_name} in {', '.join(archives)}; found {described(names)}"


def _decode_all(
    decoder: "_Decoder", pairs: list[Pair], native: NativeMasks, workers: int
) -> tuple[list[dict[str, Any] | None], dict[str, str]]:
    """Facts by pair, None where there is a problem; the problems by id. Fills the arrays and `native`."""
    rows: list[dict[str, Any] | None] = []
    problems: dict[str, str] = {}
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with decoder, ThreadPoolExecutor(workers) as pool:
            results = _in_order(pool, decoder.decode, enumerate(pairs), ahead=4 * workers)
            bar = tqdm(results, total=len(pairs), desc="decoding", unit="image", disable=None)
            for pair, result in zip(pairs, bar, strict=True):
                if isinstance(result, str):
                    problems[pair.id] = result
                    rows.append(None)
                else:
                    facts, mask = result
                    rows.append({"id": pair.id, **facts})
                    native.add(pair.id, mask)
    finally:
        cv2.setNumThreads(threads)
    return rows, problems


def _in_order(
    pool: ThreadPoolExecutor, work: Callable[[int, Pair], _Result], jobs: Iterator[tuple[int, Pair]], ahead: int
) -> Iterator[_Result]:
    """pool.map that holds no more than `ahead` jobs at a time."""
    waiting: deque[Future] = deque(pool.submit(work, *job) for job in islice(jobs, ahead))
    while waiting:
        yield waiting.popleft().result()
        waiting.extend(pool.submit(work, *job) for job in islice(jobs, 1))


class _Decoder:
    """Decodes pairs into their rows of the arrays, from any number of threads."""

    def __init__(
        self, raw: Path, source: Source, partial: dict[str, Path], size: int, masks_on: str | None, empty: bool
    ) -> None:
        self._raw, self._source, self._size, self._masks_on, self._empty = raw, source, size, masks_on, empty
        self._open = ExitStack()
        self._files = {name: self._open.enter_context(path.open("r+b", buffering=0)) for name, path in partial.items()}
        self._starts = {name: np.load(path, mmap_mode="r").offset for name, path in partial.items()}
        self._own = threading.local()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._open.close()

    def decode(self, index: int, pair: Pair) -> _Result:
        """The pair's facts and native mask, or what is wrong with it."""
        if pair.problem or pair.image is None or pair.mask is None:
            return pair.problem
        try:
            image, mask = (self._archive(name).read(member) for name, member in (pair.image, pair.mask))
            result = decode_pair(image, mask, self._source.mask_threshold, self._size, self._masks_on, self._empty)
        except ValueError as error:
            return str(error)
        for name, row in zip(ARRAYS, (result.image, result.mask, result.view), strict=True):
            # Written, not mapped: pages of a map would count as this program's memory.
            os.pwrite(self._files[name].fileno(), row.data, self._starts[name] + index * row.nbytes)
        return result.facts, encoded(result.native)

    def _archive(self, name: str) -> Archive:
        """This thread's own handle: reading moves it."""
        if not hasattr(self._own, name):
            setattr(self._own, name, self._open.enter_context(Archive(self._raw / name)))
        return getattr(self._own, name)


def _read_source(raw: Path) -> tuple[str, list[str], bool]:
    """The source's name, its archives, and whether they hold the publisher's own split."""
    try:
        record = json.loads((raw / "source.json").read_text(encoding="utf-8"))
        extra = record.get("extra", [])
        name, archives = record["source"], [archive["name"] for archive in record["archives"] + extra]
    except (OSError, json.JSONDecodeError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{raw / 'source.json'}: missing or unreadable; run the download step first") from None
    if not isinstance(name, str) or name not in SOURCES:
        known = ", ".join(SOURCES)
        raise ValueError(f"{raw / 'source.json'}: source {name!r} is none of {known}; run the download step again")
    return name, archives, bool(extra)


def _shapes(count: int, size: int) -> dict[str, tuple[int, ...]]:
    return {"images": (count, size, size, 3), "masks": (count, size, size), "lesions": (count, VIEW, VIEW)}


def _allocate(path: Path, shape: tuple[int, ...]) -> None:
    """An array file with its disk space taken, so that a full disk is noticed before the work."""
    np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape).flush()
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def _compact(path: Path, kept: list[int]) -> None:
    """Leaves the rows `kept`, in their order, in the file at `path`, on disk."""
    array = np.load(path, mmap_mode="r+")
    if len(kept) == len(array):
        array.flush()
        return
    smaller = _smaller(path)
    _allocate(smaller, (len(kept), *array.shape[1:]))
    result = np.load(smaller, mmap_mode="r+")
    for target, index in enumerate(kept):
        result[target] = array[index]
    result.flush()
    smaller.replace(path)


def _smaller(path: Path) -> Path:
    return path.with_name(f"{path.name}2")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
