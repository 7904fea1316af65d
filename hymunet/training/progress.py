"""How far a run is: the part that belongs to its state, and the part that is only looked at."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import torch
from torch import Tensor


@dataclass
class Progress:
    """step: optimizer steps done, bad ones included. best_epoch: counted from 1; 0 before the first validation."""

    step: int = 0
    best_epoch: int = 0
    best_dice: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        return cls(**content)


@contextmanager
def told(say: Callable[[str], None], what: str, every: float = 30.0) -> Iterator[None]:
    """Says every `every` seconds that `what` still goes on, so that a silent wait does not look like a hang."""
    over, start = threading.Event(), time.monotonic()

    def tell() -> None:
        while not over.wait(every):
            say(f"{what}, {time.monotonic() - start:.0f} s so far")

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


class Readout:
    """Copies the counters off the device every `every` steps and shows them once they have arrived, a little late,
    so that the device never waits to be looked at."""

    def __init__(self, device: torch.device, images: int = 0, every: int = 10) -> None:
        self.on_gpu, self.every = device.type == "cuda", every
        self.host = torch.zeros(4, dtype=torch.float64, pin_memory=self.on_gpu)
        self.event = torch.cuda.Event() if self.on_gpu else None
        self.pending: int | None = None
        self.step = self.bad_in_a_row = 0
        self.loss: float | None = None
        self.clock, self.images = time.perf_counter(), images

    def update(self, step: int, totals: Tensor) -> bool:
        """True when new values have come in: `loss` (mean of the epoch so far), `bad_in_a_row`, both at `step`."""
        arrived = self._collect()
        if step % self.every == 0 and self.pending is None:
            self.host.copy_(totals, non_blocking=True)
            if self.event:
                self.event.record()
            self.pending = step
            if not self.on_gpu:
                arrived = self._collect()
        return arrived

    def rate(self, images: int) -> float:
        """Images per second since the last call, given the number of images so far."""
        now = time.perf_counter()
        rate = (images - self.images) / max(now - self.clock, 1e-9)
        self.clock, self.images = now, images
        return rate

    def _collect(self) -> bool:
        if self.pending is None or (self.event and not self.event.query()):
            return False
        total, count, in_a_row, _ = self.host.tolist()
        self.step, self.pending = self.pending, None
        self.loss = total / count if count else None
        self.bad_in_a_row = int(in_a_row)
        return True
