"""Signals as a flag that the training reads between two steps."""

import signal
from types import FrameType, TracebackType
from typing import Self

RESUME_ME = 75  # EX_TEMPFAIL: run the same command again
INTERRUPTED = 130


class Interrupts:
    """SIGTERM and SIGINT are noted; a second SIGINT is not waited out."""

    def __init__(self) -> None:
        self.received: int | None = None

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.received == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number

    @property
    def exit_code(self) -> int:
        return INTERRUPTED if self.received == signal.SIGINT else RESUME_ME
