"""ZIP archives: packed the same every time, and read in place. Nothing is ever extracted, so no name inside one can
reach the file system.

What no honest archive of images holds refuses the archive: absolute or climbing names, links, encryption, names that
clash when case or the form of accents is ignored, and members that unpack to more than their kind can need.
"""

import os
import stat
import unicodedata
import zipfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Self

from hymunet.formats.zips import reading
from hymunet.places import named

MAX_MEMBER_BYTES = 256 * 2**20  # the largest original of ISIC 2018 is under 20 MiB
MAX_RATIO = 1000  # deflate's own limit is 1032; images barely compress, flat masks stay below 400


class Archive:
    """A checked ZIP file, open for reading. Use as a context manager; one per process, for the handle is not shared."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        with reading(self.path, self._unreadable):
            self._zip = zipfile.ZipFile(self.path)
        self._members = {info.filename: info for info in self._zip.infolist() if not info.filename.endswith("/")}
        try:
            self._refuse_hostile()
        except ValueError:
            self._zip.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        self._zip.close()

    @property
    def names(self) -> list[str]:
        """Member names in the archive's own order, directories left out."""
        return list(self._members)

    def read(self, name: str, count: int = -1) -> bytes:
        """A member's bytes, their CRC checked, or the first `count` of them.

        ValueError names archive and member when they cannot be had, OSError the archive where the disk cannot be read.
        """
        if name not in self._members:
            raise ValueError(f"{self.path}: holds no {name}")

        def problem(error: Exception) -> ValueError:
            return ValueError(f"{self.path}: {name} is damaged ({error}); download the archive again")

        with reading(self.path, problem), self._zip.open(self._members[name]) as member:
            return member.read(count)

    def _unreadable(self, error: Exception) -> ValueError:
        if isinstance(error, FileNotFoundError):
            return ValueError(f"{self.path}: no such archive; run the download step first")
        return ValueError(f"{self.path}: not a readable ZIP archive ({error}); download it again")

    def _refuse_hostile(self) -> None:
        entries = self._zip.infolist()
        for info in entries:
            if reason := _hostile(info):
                raise ValueError(f"{self.path}: refused, {info.filename!r} {reason}")
        if len(self._members) != sum(not info.filename.endswith("/") for info in entries):
            raise ValueError(f"{self.path}: refused, a name occurs twice")
        folded: dict[str, str] = {}
        for name in self._members:
            other = folded.setdefault(unicodedata.normalize("NFC", name).casefold(), name)
            if other != name:
                raise ValueError(f"{self.path}: refused, {name!r} and {other!r} differ only in case or form")


def pack(members: Iterable[tuple[str, bytes]], target: Path) -> None:
    """A ZIP that depends on names and contents alone, written atomically."""
    partial = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with named(target), partial.open("wb") as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                for name, content in members:
                    archive.writestr(zipfile.ZipInfo(name), content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _hostile(info: zipfile.ZipInfo) -> str | None:
    parts = PurePosixPath(info.filename).parts
    if not parts:
        return "names no file"
    if "\\" in info.filename:
        return "has a backslash in its name, as some programs on Windows write them; zip the files again"
    if parts[0].startswith("/") or ":" in parts[0] or ".." in parts:
        return "would leave the folder it is unpacked in"
    kind = info.external_attr >> 16
    if kind and stat.S_IFMT(kind) not in (0, stat.S_IFREG, stat.S_IFDIR if info.filename.endswith("/") else 0):
        return "is not a regular file"
    if info.flag_bits & 0x1:
        return "is encrypted"
    if info.file_size > MAX_MEMBER_BYTES:
        return f"unpacks to {info.file_size:,} bytes, more than {MAX_MEMBER_BYTES:,}"
    if info.file_size > MAX_RATIO * max(info.compress_size, 1):
        return f"unpacks to {info.file_size:,} bytes from {info.compress_size:,}"
    return None
