"""Clients that ask a server for masks without a pause, and what they were answered."""

from __future__ import annotations

import statistics
import threading
import time
from collections import Counter
from types import TracebackType
from typing import Any

WAIT = 120  # seconds for an answer


class Clients:
    """`count` threads, each with a connection that is kept, from `__enter__` until told to stop, or `most` requests.

    statuses: how often each answer came; an answer that never came counts as its error's name. unnamed: refusals (429,
    503) that did not say when to come again. versions: of masks, which version's they were, where `of_versions`.
    """

    def __init__(
        self, address: str, bodies: list[bytes], count: int, most: int | None = None, of_versions: bool = False
    ):
        self.address, self.bodies, self.most, self.of_versions = address, bodies, most, of_versions
        self.statuses: Counter[str] = Counter()
        self.versions: Counter[str] = Counter()
        self.unnamed, self.latencies, self.seconds = 0, list[float](), 0.0
        self._stopped, self._lock, self._next = threading.Event(), threading.Lock(), 0
        self._threads = [threading.Thread(target=self._ask) for _ in range(count)]

    def __enter__(self) -> Clients:
        self._start = time.perf_counter()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.most is None or error is not None:
            self._stopped.set()
        for thread in self._threads:
            thread.join()
        self.seconds = time.perf_counter() - self._start

    @property
    def answered(self) -> int:
        return len(self.latencies)

    def _ask(self) -> None:
        import requests

        with requests.Session() as session:
            while not self._stopped.is_set():
                with self._lock:
                    number, self._next = self._next, self._next + 1
                if self.most is not None and number >= self.most:
                    return
                body = self.bodies[number % len(self.bodies)]
                output = "json" if self.of_versions else ("mask", "mask", "json", "all")[number % 4]
                sent = time.perf_counter()
                try:
                    answer = session.post(f"{self.address}/v1/segment?output={output}", data=body, timeout=WAIT)
                except requests.RequestException as failed:
                    with self._lock:
                        self.statuses[type(failed).__name__] += 1
                    continue
                took = time.perf_counter() - sent
                with self._lock:
                    self._note(answer, took)

    def _note(self, answer: Any, took: float) -> None:
        self.statuses[str(answer.status_code)] += 1
        if answer.status_code == 200:
            self.latencies.append(took)
            if self.of_versions:
                self.versions[answer.json()["model"]["source"]] += 1
        elif answer.status_code in (429, 503):
            self.unnamed += not answer.headers.get("Retry-After", "").isdigit()

    def record(self) -> dict[str, Any]:
        ordered = sorted(self.latencies) or [float("nan")]
        return {
            "seconds": round(self.seconds, 2),
            "images_per_second": self.answered / self.seconds,
            "p50_ms": 1e3 * statistics.median(ordered),
            "p99_ms": 1e3 * ordered[int(0.99 * (len(ordered) - 1))],
            "statuses": dict(sorted(self.statuses.items())),
        }
