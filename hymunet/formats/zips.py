"""Damaged ZIPs, told from disks that cannot be read: the library and its decompressors have no error in common."""

import errno
import lzma
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

DAMAGED = (OSError, ValueError, RuntimeError, EOFError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error)
_OF_THE_ARCHIVE = (None, errno.EINVAL, errno.ENOENT)  # a decompressor's; a place that its tables name; gone altogether


@contextmanager
def reading(path: Path, problem: Callable[[Exception], Exception]) -> Iterator[None]:
    """For work on a ZIP. Raises `problem` of whatever is wrong with the archive, and OSError, naming `path`, where the
    system could not read, which says nothing of the archive."""
    try:
        yield
    except DAMAGED as error:
        if isinstance(error, OSError) and error.errno not in _OF_THE_ARCHIVE:
            error.filename = error.filename or str(path)
            raise
        raise problem(error) from None
