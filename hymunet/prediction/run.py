"""Images in, files out: reading and writing beside the model, a few images in memory at a time.

Threads read, decode and shrink images ahead of the model, and enlarge, draw and write behind it; the model runs in the
calling thread on what is ready. An image that cannot be read is kept for the end and stops nothing. What an earlier run
has finished, with this model and the same bytes of the image, is left as it is.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from hymunet import images
from hymunet.evaluation import familiar
from hymunet.formats.size import declared, require_decodable
from hymunet.prediction import results
from hymunet.prediction.ensemble import Ensemble
from hymunet.prediction.model import identity
from hymunet.prediction.ours import written_by_us
from hymunet.prediction.sources import Entry
from hymunet.prediction.table import Table
from hymunet.processors import processors
from hymunet.shortlist import shortlist

BATCH = 4  # on processors larger ones leave the cache: 8 take a seventh longer for each image
PIXELS = 60_000_000  # of the images in memory, about; one may be larger
MOST = 250_000_000  # pixels of one image, unless said otherwise
BYTES = 20  # of memory that one pixel takes, at most


@dataclass
class Outcome:
    """unlike: how many of those written are beyond the training images."""

    written: int = 0
    skipped: int = 0
    unlike: int = 0
    problems: list[str] = field(default_factory=list)

    def require_all(self) -> None:
        """Raises ValueError naming the images that could not be read."""
        if not self.problems:
            return
        count = self.written + self.skipped + len(self.problems)
        raise ValueError(f"{len(self.problems):,} of {count:,} images cannot be read:{shortlist(self.problems)}")


@dataclass(frozen=True)
class Read:
    """An image on its way to the model; image: uint8 RGB (H, W, 3)."""

    entry: Entry
    image: np.ndarray
    prepared: list[Any]
    sha256: str
    seconds: float


class Run:
    """One call of the command. wanted: kinds of files, as results.kinds gives them; most: pixels of one image."""

    def __init__(self, model: Ensemble, output: Path, wanted: Sequence[str], most: int = MOST) -> None:
        self.model, self.output, self.wanted, self.most = model, output, wanted, most
        self.identity = identity(model.facts)
        self.outcome = Outcome()
        self._largest = 1

    def over(self, entries: Sequence[Entry]) -> Outcome:
        """Raises ValueError before any work where files of others are in the way, OSError where none can be written."""
        results.require_free(entries, self.output, self.wanted)
        self.table = Table(self.output)
        try:
            with (
                ThreadPoolExecutor(max(2, processors()), "images") as pool,
                tqdm(total=len(entries), unit="image", disable=None) as bar,
            ):
                try:
                    self._work(deque(entries), pool, bar)
                except BaseException:
                    pool.shutdown(wait=True, cancel_futures=True)
                    raise
        finally:
            self.table.close()
        if results.COCO in self.wanted:
            results.write_coco(self.table, self.output)
        return self.outcome

    def _work(self, waiting: deque[Entry], pool: ThreadPoolExecutor, bar: Any) -> None:
        reading: deque[Future[Read | str | None]] = deque()
        writing: deque[Future[dict[str, Any]]] = deque()
        while waiting or reading or writing:
            room = max(1, min(2 * BATCH, PIXELS // self._largest) - len(writing))
            while waiting and len(reading) < room:
                reading.append(pool.submit(self._read, waiting.popleft()))
            batch = self._batch(reading, bar)
            if batch:
                start = time.perf_counter()
                computed = self.model.compute([one.prepared for one in batch])
                share = (time.perf_counter() - start) / len(batch)
                for one, part in zip(batch, computed, strict=True):
                    if not self._is_of(one.entry.name, one.sha256):
                        self.table.forget(one.entry.name)
                    writing.append(pool.submit(self._write, one, part, share))
            while writing and (writing[0].done() or not batch or len(writing) >= room):
                row = writing.popleft().result()
                self.table.add(row)
                self.outcome.written += 1
                self.outcome.unlike += row["out_of_distribution"] not in (familiar.FAMILIAR, familiar.UNKNOWN)
                bar.update()

    def _batch(self, reading: deque[Future[Read | str | None]], bar: Any) -> list[Read]:
        """What is read by now, in order; waits for one only."""
        batch: list[Read] = []
        while reading and len(batch) < BATCH and (not batch or reading[0].done()):
            read = reading.popleft().result()
            if isinstance(read, Read):
                batch.append(read)
                height, width = read.image.shape[:2]
                self._largest = max(height * width, int(0.9 * self._largest))
                continue
            if read is None:
                self.outcome.skipped += 1
            else:
                self.outcome.problems.append(read)
            bar.update()
        return batch

    def _read(self, entry: Entry) -> Read | str | None:
        """The image; why it cannot be read; or None where it is done."""
        start = time.perf_counter()
        if entry.problem:
            return entry.problem
        try:
            content = entry.read()
            digest = hashlib.sha256(content).hexdigest()
            if self._done(entry.name, digest):
                return None
            require_decodable(content, entry.shown)
            self._require_room(entry.shown, declared(content))
            image = images.rgb(content, entry.shown)
            self._require_room(entry.shown, image.shape[:2])
        except OSError as error:
            return f"{entry.shown}: {os.strerror(error.errno) if error.errno else error}"
        except (ValueError, MemoryError) as error:
            return str(error) or f"{entry.shown}: does not fit into memory"
        prepared = self.model.prepare(image)
        return Read(entry, image, prepared, digest, time.perf_counter() - start)

    def _require_room(self, shown: str, size: tuple[int, ...] | None) -> None:
        """Raises ValueError for an image of more pixels than are taken."""
        if size is not None and size[0] * size[1] > self.most:
            gigabytes = BYTES * size[0] * size[1] / 1e9
            raise ValueError(
                f"{shown}: {size[1]}×{size[0]} pixels are more than {self.most:,}, and would take {gigabytes:.0f} GB "
                "of memory; make it smaller, which costs little, as the model sees images at its own size, or raise "
                "--max-pixels"
            )

    def _done(self, name: str, digest: str) -> bool:
        files = results.targets(name, self.output, self.wanted).values()
        return self._is_of(name, digest) and all(map(written_by_us, files))

    def _is_of(self, name: str, digest: str) -> bool:
        """Whether the files there are this model's, of an image with this hash."""
        row = self.table[name]
        return row is not None and (row["image_sha256"], row["model"]) == (digest, self.identity)

    def _kinds(self, read: Read) -> Sequence[str]:
        """Those wanted; and of another model or another image those that are there, which would pass for this one's."""
        if self._is_of(read.entry.name, read.sha256):
            return self.wanted
        there = results.targets(read.entry.name, self.output, results.KINDS)
        return [kind for kind, path in there.items() if kind in self.wanted or written_by_us(path)]

    def _write(self, read: Read, computed: Any, seconds: float) -> dict[str, Any]:
        start = time.perf_counter()
        found = self.model.found(computed, read.image.shape[:2])
        row = results.write(read.entry.name, read.entry.shown, read.image, found, self.output, self._kinds(read))
        row["out_of_distribution"] = self.model.unlike(read.image, float(row["area_fraction"]))
        seconds += read.seconds + time.perf_counter() - start
        return {**row, "seconds": f"{seconds:.4f}", "image_sha256": read.sha256, "model": self.identity}
