"""Requests of any image size share the model: whatever waits when it is free makes the next batch, up to a bound.

Nobody waits for a batch to fill. A batch is of one version of the model, the one that its images were prepared for.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from hymunet.inference import Segmenter

log = logging.getLogger("hymunet.serving")


@dataclass(frozen=True)
class Item:
    """image: uint8 RGB (S, S, 3) at the segmenter's own size; result: its probabilities, float32 (S, S)."""

    segmenter: Segmenter
    image: np.ndarray
    result: Future[np.ndarray] = field(default_factory=Future)


class Batcher:
    """One thread that owns the model's computing. observe: called with each batch's size and seconds."""

    def __init__(self, most: int, observe: Callable[[int, float], object] = lambda size, seconds: None) -> None:
        self.most, self._observe = most, observe
        self._waiting: queue.SimpleQueue[Item | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        self._thread.start()

    def submit(self, segmenter: Segmenter, image: np.ndarray) -> Future[np.ndarray]:
        """A future of probabilities. Cancelled before its turn, the image is left out."""
        item = Item(segmenter, image)
        self._waiting.put(item)
        return item.result

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        """Returns when all that was submitted is computed."""
        self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (items := self._next()) is not None:
            versions: dict[int, list[Item]] = {}
            for item in items:
                if item.result.set_running_or_notify_cancel():
                    versions.setdefault(id(item.segmenter), []).append(item)
            for batch in versions.values():
                self._compute(batch)

    def _next(self) -> list[Item] | None:
        first = self._waiting.get()
        if first is None:
            return None
        items = [first]
        while len(items) < self.most:
            try:
                item = self._waiting.get_nowait()
            except queue.Empty:
                break
            if item is None:
                self._waiting.put(None)
                break
            items.append(item)
        return items

    def _compute(self, batch: list[Item]) -> None:
        """A batch that fails is tried again one by one, so that nobody fails for another's image."""
        start = time.perf_counter()
        try:
            found = batch[0].segmenter.probabilities(np.stack([item.image for item in batch]))
        except Exception as error:
            if len(batch) > 1:
                log.warning("a batch of %d failed (%s); its images are tried one by one", len(batch), error)
                for item in batch:
                    self._compute([item])
            else:
                batch[0].result.set_exception(error)
            return
        self._observe(len(batch), time.perf_counter() - start)
        for item, probability in zip(batch, found, strict=True):
            item.result.set_result(probability)
