"""Folders and files that cannot be had or made, in words with a remedy."""

import argparse
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_ANOTHER = "name another place"
_REMEDIES = {  # by the operating system's number
    errno.ENOTDIR: f"a part of this path is a file, {_ANOTHER}",
    errno.EEXIST: f"a folder is to be there, {_ANOTHER}",
    errno.EISDIR: f"a file is to be there, {_ANOTHER}",
    errno.EACCES: f"change its permissions, or {_ANOTHER}",
    errno.EPERM: f"change its permissions, or {_ANOTHER}",
    errno.EROFS: _ANOTHER,
    errno.ENOSPC: "`hymunet clean` lists what may go",
    errno.EDQUOT: "`hymunet clean` lists what may go",
    errno.ENAMETOOLONG: "name a shorter one",
}
_LASTING = (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError, PermissionError)


def lasting(error: OSError) -> bool:
    """It stays until a person mends it: something is not there, is in the way, or is not allowed."""
    return isinstance(error, _LASTING) or error.errno in (errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP)


def in_words(error: OSError) -> str:
    """One line: the path, what is wrong with it, what to do."""
    if not (error.strerror and isinstance(error.filename, str)):
        return str(error)
    remedy = _REMEDIES.get(error.errno or 0)
    return f"{error.filename}: {error.strerror}" + (f"; {remedy}" if remedy else "")


@contextmanager
def named(place: Path) -> Iterator[None]:
    """An OSError of work below `place` that names no file, as the system's and NumPy's of a full disk, names it."""
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            raise
        if error.errno is None:
            raise OSError(f"{place}: {error}; is the disk full?") from error
        error.filename = str(place)
        raise


def require_folder(place: Path) -> None:
    """Raises ValueError for a folder that could not be made, or not be written to."""
    whole = place.absolute()
    there = next(path for path in (whole, *whole.parents) if path.exists())
    if not there.is_dir():
        raise ValueError(f"{place}: {'' if there == whole else f'{there} '}is a file; name another folder")
    if not os.access(there, os.W_OK):
        said = f"{there}:" if there == whole else f"{place}: {there}"
        raise ValueError(f"{said} may not be written to by this user; change its permissions, or name another folder")


class Parser(argparse.ArgumentParser):
    """Its options of `type=Path`, and those of its verbs, take no empty name, as of a shell's variable that is not
    set; the folder `.` has its whole name, by which messages can call it."""

    def __init__(self, *words: Any, **options: Any) -> None:
        super().__init__(*words, **options)
        self.register("type", Path, _path)


def _path(text: str) -> Path:
    if not text.strip():
        raise argparse.ArgumentTypeError("is empty; name a place, or leave it out for the default")
    return Path(text) if Path(text).parts else Path.cwd()
