"""Folders for the work of one process, which end with it: what is worth keeping is pushed or handed on by then."""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

_open: set[Path] = set()


@contextmanager
def scratch() -> Iterator[Path]:
    """A new folder: below HYMUNET_WORKSPACE, which is made where it is not there; without it, where the system has
    temporary ones, for which a pod has little room."""
    if below := os.environ.get("HYMUNET_WORKSPACE"):
        Path(below).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="hymunet-", dir=below or None, ignore_cleanup_errors=True) as name:
        folder = Path(name)
        _open.add(folder)
        try:
            yield folder
        finally:
            _open.discard(folder)


@contextmanager
def workplace(named: Path | None = None) -> Iterator[Path]:
    """The folder that is named, here or by HYMUNET_WORKSPACE, which stays, as a pod's does; else a new one."""
    if given := named or os.environ.get("HYMUNET_WORKSPACE"):
        yield Path(given)
        return
    with scratch() as folder:
        yield folder


def end_at_once(number: int, _: FrameType | None = None) -> NoReturn:
    """Of a signal: no code runs on but what clears these folders away. Not by the signal itself: of a container's first
    process the system ignores that."""
    for folder in _open.copy():
        shutil.rmtree(folder, ignore_errors=True)
    os._exit(128 + number)


def end_on_termination() -> None:
    """SIGTERM ends a process at once that runs no other program."""
    signal.signal(signal.SIGTERM, end_at_once)
