"""What a program prints is there when it is printed; who stops reading it stops nothing; a full disk is named.

A warning is a line like any other.
"""

import atexit
import contextlib
import io
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hymunet import atomic
from hymunet.places import require_folder

STANDARD_ERROR = 2  # its number; those below are output and input
OURS = "hymunet"
LOGGED = "selective scan on "  # so begins what is logged as well, which a program shows: once is enough
SILENT = 0.2  # seconds after which a terminal is told that the program is at work
NAMES = {"stdout": "standard output", "stderr": "standard error"}


class _Printed(io.FileIO):
    """Where what is printed goes. A reader who has gone (`| head`, a `tee` that Ctrl-C has ended) is no error: work
    goes on, and saves what it has where it was told to stop. Of other errors the system does not say whose they are."""

    def __init__(self, descriptor: int, stream: str) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self.stream = stream

    def write(self, content: Any, /) -> int:
        if _note:
            _note.end()
        try:
            return super().write(content)
        except BrokenPipeError:
            drop(self.fileno())
            return super().write(content)
        except OSError as error:
            raise OSError(error.errno, error.strerror, self.stream) from None


class _Note:
    """Stands on standard error, SILENT seconds from now on, until it is ended."""

    def __init__(self, text: str) -> None:
        self.text, self._shown, self._lock = text.encode(), False, threading.Lock()
        self._timer = threading.Timer(SILENT, self._show)
        self._timer.daemon = True
        self._timer.start()

    def _show(self) -> None:
        with self._lock, contextlib.suppress(OSError):
            if _note is self:
                self._shown = True
                os.write(STANDARD_ERROR, self.text)

    def end(self) -> None:
        global _note
        _note = None
        self._timer.cancel()
        with self._lock, contextlib.suppress(OSError):
            if self._shown:
                os.write(STANDARD_ERROR, b"\r" + b" " * len(self.text) + b"\r")


_note: _Note | None = None


@contextlib.contextmanager
def at_work(what: str) -> Iterator[None]:
    """On a terminal, a line that says so while nothing is printed yet: libraries take seconds to load. What is printed
    first takes its place."""
    global _note
    if sys.stderr.isatty():
        _note = _Note(f"{what}: at work …")
    try:
        yield
    finally:
        if _note:
            _note.end()


def by_line() -> None:
    """Through a pipe (`| tee log`, DVC's, a pod's log) as on a terminal: Python would keep some kilobytes back."""
    _open_the_closed()
    if sys.stderr is sys.__stderr__:
        warnings.formatwarning = in_a_line
        warnings.filterwarnings("ignore", message=LOGGED, category=RuntimeWarning)
    for attribute, name in NAMES.items():
        stream = getattr(sys, attribute)
        if stream is getattr(sys, f"__{attribute}__") and isinstance(stream, io.TextIOWrapper):  # nobody replaced it
            stream.flush()
            printed = io.BufferedWriter(_Printed(stream.fileno(), name))
            text = io.TextIOWrapper(printed, stream.encoding, stream.errors, line_buffering=True)
            setattr(sys, attribute, text)
            atexit.register(_leave, text)


def in_a_line(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """A warning without the place in somebody's source: of a library with its name."""
    folder, _, inside = filename.rpartition("/site-packages/")
    library = inside.split("/")[0].removesuffix(".py") if folder else OURS
    return f"{'' if library == OURS else f'{library}: '}{' '.join(str(message).split())}\n"


def _open_the_closed() -> None:
    """Streams that were closed before the start (`>&-`, some daemons) lead nowhere: Python has None for them, which
    libraries do not look for, and a file that is opened would get their number and whatever is written there."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= STANDARD_ERROR:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for attribute, mode in {"stdin": "r", **dict.fromkeys(NAMES, "w")}.items():
        if getattr(sys, attribute) is None:
            setattr(sys, attribute, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115


def require_place(place: Path) -> None:
    """Raises ValueError, before the work, where `hand_over` could not write."""
    if place.is_dir():
        raise ValueError(f"{place}: is a folder; name the file to write")
    if place.is_file() or not place.exists():  # no device or pipe
        require_folder(place.parent)


def hand_over(text: str, place: Path) -> None:
    """Into the file that a user names, whole or not at all. A device or a pipe (`/dev/stdout`, `>(less)`) takes the
    text; it is not replaced by a file, which the superuser of a container could do."""
    if place.absolute() == Path("/dev/stdout"):
        print(text, end="")
    elif place.exists() and not place.is_file() and not place.is_dir():
        with place.open("a", encoding="utf-8") as stream:
            stream.write(text)
    else:
        atomic.write(place, text)


def _leave(stream: io.TextIOWrapper) -> None:
    """What a full disk did not take was said; the interpreter's own last try would end in a traceback."""
    with contextlib.suppress(OSError):
        stream.flush()
        return
    drop(stream.fileno())


def drop(descriptor: int) -> None:
    """What is written there from now on is dropped."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)
