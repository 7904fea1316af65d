"""What one server takes on: bounds of a request, how many at once, and how a request beyond them is refused."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """max_bytes: of a request's body. max_pixels: of an image, as its head declares them. queue: requests at once.

    upload_seconds: from a request's head to the end of its body. seconds: from there to the answer.
    batch: images that the model sees at once.
    """

    max_bytes: int = 20 * 2**20
    max_pixels: int = 50_000_000
    queue: int = 64
    upload_seconds: float = 30.0
    seconds: float = 30.0
    batch: int = 4

    def __post_init__(self) -> None:
        """Raises ValueError naming the first limit that is not positive and finite."""
        for name, value in vars(self).items():
            if not 0 < value < math.inf:
                raise ValueError(f"--{name.replace('_', '-')} {value:g} must be above 0 and finite")


class Refused(Exception):
    """A request that gets no mask: the HTTP status, the reason in words, and after how many seconds to come again."""

    def __init__(self, status: int, reason: str, retry_after: int | None = None) -> None:
        super().__init__(reason)
        self.status, self.reason, self.retry_after = status, reason, retry_after


class Admission:
    """Counts requests from their head to their answer; used in the event loop alone."""

    def __init__(self, most: int) -> None:
        self.most, self.count, self._seconds = most, 0, 0.1

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Raises Refused (429) when all slots are taken."""
        if self.count >= self.most:
            raise Refused(429, f"{self.most} requests are being answered; come again", self.retry_after)
        self.count += 1
        try:
            yield
        finally:
            self.count -= 1

    def took(self, seconds: float) -> None:
        """One image's share of the model's time, for the estimate of the wait."""
        self._seconds += 0.1 * (seconds - self._seconds)

    @property
    def retry_after(self) -> int:
        """Seconds until those who wait now are answered, from 1 to 60."""
        return min(60, max(1, math.ceil(self.count * self._seconds)))
