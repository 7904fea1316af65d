"""Files that are there whole or not at all."""

import os
import secrets
from pathlib import Path


def write(path: Path, content: bytes | str) -> None:
    """Replaces `path` with the content, text as UTF-8, in one step that outlives a power cut once it has returned.

    On failure nothing changes, and an OSError names `path`. Of several writers at once one wins, whole.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}.tmp")
    try:
        with partial.open("xb") as file:
            file.write(content.encode("utf-8") if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename in (None, str(partial)):  # None: the disk is full
            error.filename = str(path)
        raise
    sync(path.parent)


def sync(folder: Path) -> None:
    """The names in a folder reach the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
