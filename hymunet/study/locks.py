"""A cell belongs to one process at a time, on this machine or another that shares the folder."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FILE = "lock"


@contextmanager
def lock(work: Path, patience: float = 0.0) -> Iterator[bool]:
    """Holds a cell for this process; gives False where another one has it. It ends with the process, however that
    ends. patience: seconds to try for, as one who only looks holds it, too, for an instant."""
    work.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(work / FILE, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        yield _locked(descriptor, fcntl.LOCK_EX, patience)
    finally:
        os.close(descriptor)


def _locked(descriptor: int, kind: int, patience: float = 0.0) -> bool:
    until = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() >= until:
                return False
            time.sleep(0.05)
        else:
            return True


def taken(work: Path) -> bool:
    """Whether a process is computing this cell. Who may only read the folder may look."""
    try:
        descriptor = os.open(work / FILE, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        return not _locked(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)
