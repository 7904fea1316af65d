"""The folder that local runs share: open to their containers, and with a lock for each run that goes on.

The program that computes a run holds its lock, and the system drops it when that program dies, however it does.
"""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

MODE = ".mode"  # of the folder, while it is open to containers


@contextlib.contextmanager
def open_to_containers(root: Path) -> Iterator[None]:
    """Steps run as a user of their own, and write below `root`: only while they do may everyone.

    The mode before lies in a file there: after a run that was killed the next one knows it, and of two at once the last
    one gives it back.
    """
    root.mkdir(parents=True, exist_ok=True)
    with (root / MODE).open("a+", encoding="ascii") as before:
        mode = ""
        while not mode:
            with contextlib.suppress(BlockingIOError):  # another run is there, or is just leaving
                fcntl.flock(before, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not _noted(before):
                    before.write(f"{root.stat().st_mode & 0o777:o}")
                    before.flush()
            fcntl.flock(before, fcntl.LOCK_SH)
            mode = _noted(before)
        root.chmod(0o777)
        try:
            yield
        finally:
            with contextlib.suppress(BlockingIOError):  # another run goes on here
                fcntl.flock(before, fcntl.LOCK_EX | fcntl.LOCK_NB)
                root.chmod(int(mode, 8) & 0o777)
                before.truncate(0)


def _noted(file: TextIO) -> str:
    file.seek(0)
    return file.read()


def _file(root: Path, run: str) -> Path:
    return root / f".{run}.lock"


@contextlib.contextmanager
def held(root: Path, run: str) -> Iterator[None]:
    """ValueError where another program computes this run."""
    with _file(root, run).open("a", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"run {run} goes on in {root}; name another") from None
        try:
            yield
        finally:
            ended(root, run)


def goes_on(root: Path, run: str) -> bool:
    """False for a run whose program ended, or was killed."""
    try:
        with _file(root, run).open(encoding="ascii") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def ended(root: Path, run: str) -> None:
    """Nothing is left of it."""
    _file(root, run).unlink(missing_ok=True)
