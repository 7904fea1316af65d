"""What models cost on this machine, measured in one process, in turns, so that whatever slows one slows the others."""

import ctypes
import gc
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hymunet.registry.evidence import Cost

if TYPE_CHECKING:
    from hymunet.inference import Segmenter

SIDE = 512  # pixels of the image that is segmented, as it comes
SERIES, ROUNDS = 3, 20  # the best series counts: what else the machine does only ever makes one slower
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def measure(segmenters: Sequence["Segmenter"]) -> list[Cost]:
    """Of one image from pixels to mask, on the processor, for each of the models."""
    from tqdm import tqdm

    from hymunet.data.acquire.synthetic import draw

    image = draw(0, SIDE, 0)[0]
    runs: list[Callable[[], object]] = [lambda one=one: one.masks([image]) for one in segmenters]  # type: ignore[misc]
    for run in runs:
        run()
    seconds = np.empty((len(runs), SERIES, ROUNDS))
    with tqdm(total=SERIES * ROUNDS, desc="latency and memory", unit="round", disable=None) as bar:
        for series in range(SERIES):
            for turn in range(ROUNDS):
                for place in range(len(runs)) if turn % 2 else reversed(range(len(runs))):
                    start = time.perf_counter()
                    runs[place]()
                    seconds[place, series, turn] = time.perf_counter() - start
                bar.update()
    p95 = np.quantile(seconds, 0.95, axis=2).min(axis=1)
    return [Cost(float(p95[place]), _peak(run, segmenters[place])) for place, run in enumerate(runs)]


def _peak(run: Callable[[], object], segmenter: "Segmenter") -> float | None:
    """Bytes that one pass adds at its peak, and those of the weights; None where Linux does not tell."""
    try:
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        CLEAR.write_text("5", encoding="utf-8")  # the peak begins anew
        before = _kib("VmRSS")
        run()
        added = _kib("VmHWM") - before
    except (OSError, AttributeError, StopIteration):
        return None
    state = segmenter.model.state_dict().values()
    return 1024.0 * added + sum(tensor.numel() * tensor.element_size() for tensor in state)


def _kib(name: str) -> int:
    with STATUS.open(encoding="utf-8") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(f"{name}:"))
