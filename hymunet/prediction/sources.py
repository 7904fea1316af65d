"""What people name as images -> one entry each: files, folders, patterns, ZIPs, lists in CSV files or on stdin.

An entry's name says where its results go, below the output folder. It is made here, so that no name that came with the
data points anywhere else: absolute names, `..` and drives in a ZIP make an entry that is reported and never read.
"""

from __future__ import annotations

import glob
import os
import re
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import IO

from hymunet.data.acquire.pairs import LEFT_BEHIND, leftover, say_left_out
from hymunet.formats import spreadsheet
from hymunet.formats.kinds import HEAD, NAMED, WORDS, ending, kind, stem, told
from hymunet.formats.zips import DAMAGED, reading
from hymunet.places import in_words
from hymunet.prediction.ours import written_by_us

COLUMNS = ("image", "path", "file", "filename")
STDIN = "-"
SHOWN = 10
LARGEST = 2**30  # bytes of an image in a ZIP


@dataclass(frozen=True)
class Entry:
    """name: relative, without the file's ending; shown: as errors call it; problem: why it is not to be read; ending:
    the file's, with its dot."""

    name: str
    shown: str
    read: Callable[[], bytes]
    problem: str = ""
    ending: str = ""


def entries(sources: Sequence[str], output: Path) -> list[Entry]:
    """In the order of the sources, folders sorted. output: what lies in it is no image.

    Images that differ in their endings alone, as `a.jpg` and `a.png`, keep them in their names. Raises ValueError,
    before anything is read, for a source that is not there or holds no image, and for two entries whose results would
    be one file; PermissionError for one in a folder that may not be entered.
    """
    missing = [source for source in sources if not (source == STDIN or _is_there(source) or _matches(source))]
    if missing:
        more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
        named = ", ".join(source or "an empty name" for source in missing[:SHOWN])
        raise ValueError(f"{named}{more}: not there, and no pattern that fits a file")
    found: list[Entry] = []
    for source in sources:
        before = len(found)
        found += _of(source, output.resolve())
        if len(found) == before:
            raise ValueError(f"{Path.cwd() if source == '.' else source}: no image in it; read are {WORDS}")
    found = _told_apart(found)
    _require_names_apart(found)
    return found


def _is_there(source: str) -> bool:
    try:
        os.lstat(source)
    except PermissionError:
        raise
    except (OSError, ValueError):
        return False
    return True


def _of(source: str, output: Path) -> Iterator[Entry]:
    path = Path(source)
    if source == STDIN:
        yield from _stdin()
    elif path.is_dir():
        yield from _folder(path, output)
    elif os.path.lexists(path):
        if path.suffix.lower() == ".zip" or (path.is_file() and zipfile.is_zipfile(path) and not NAMED.search(source)):
            yield from _zip(path)
        elif path.suffix.lower() == ".csv":
            yield from _csv(path)
        else:
            yield _file(path, path.name)
    else:
        root = Path(*_fixed(source))
        for match in _matches(source):
            path, below = Path(match), Path(match).relative_to(root).as_posix()
            if path.is_file() and not (_inside(path, output) or leftover(below) or written_by_us(path)):
                yield _file(path, below)


def _file(path: Path, name: str) -> Entry:
    if os.fsencode(path) != str(path).encode(errors="replace"):
        shown = ascii(os.fsencode(path))[2:-1]
        reason = f"its name is not text in UTF-8 as {sys.getfilesystemencoding()} reads it"
        return Entry("", shown, path.read_bytes, f"{shown}: {reason}; rename it, or set PYTHONUTF8=1")
    if any(ord(letter) < 32 for letter in name):  # a row of the table is a line
        return Entry(
            "", repr(str(path)), path.read_bytes, f"{str(path)!r}: a line break or the like is in its name; rename it"
        )
    if path.is_char_device() or path.is_block_device():  # which may never end
        return Entry("", str(path), path.read_bytes, f"{path} is a device and no file; name a file")
    return Entry(stem(name), str(path), path.read_bytes, ending=ending(name))


def _folder(folder: Path, output: Path) -> Iterator[Entry]:
    """Every image below it; our own results are left out, and what else is left out is said."""
    systems, others, linked = [], [], []
    closed: list[OSError] = []
    for place, folders, files in os.walk(folder, onerror=closed.append):
        paths = {name: Path(place) / name for name in sorted(folders)}
        linked += [path.relative_to(folder).as_posix() for path in paths.values() if path.is_symlink()]
        folders[:] = [name for name, path in paths.items() if path.resolve() != output]
        for name in sorted(files):
            path = Path(place) / name
            below = path.relative_to(folder).as_posix()
            if leftover(below):
                systems.append(below)
            elif written_by_us(path):
                continue
            elif path.exists() and not (path.is_file() and _is_image(name, lambda path=path: path.open("rb"))):  # type: ignore[misc]
                others.append(below)
            else:
                yield _file(path, below)
    for error in closed:
        yield Entry("", str(error.filename), folder.read_bytes, in_words(error))
    _say(folder, systems, others)
    if linked:
        shown = f"{len(linked):,} linked folders are not entered ({', '.join(linked[:3])})"
        print(f"predict: {folder}: {shown}; name them besides, if they are meant", file=sys.stderr)


def _is_image(name: str, opened: Callable[[], IO[bytes]]) -> bool:
    """By its ending, else by its content, as the pipeline tells them; what cannot be opened is none."""

    def head() -> bytes:
        try:
            with opened() as file:
                return file.read(HEAD)
        except DAMAGED:
            return b""

    return bool(NAMED.search(name) or told(name, head))


def _say(source: Path, systems: list[str], others: list[str]) -> None:
    say_left_out("predict", source, systems, LEFT_BEHIND)
    say_left_out("predict", source, others, "no image")


def _zip(archive: Path) -> Iterator[Entry]:
    """Every image in it, read where it lies: nothing is unpacked."""
    with reading(archive, lambda error: ValueError(f"{archive}: is no whole ZIP archive ({error}); get it again")):
        opened = zipfile.ZipFile(archive)

    def reader(member: zipfile.ZipInfo) -> Callable[[], bytes]:
        def problem(error: Exception) -> ValueError:
            return ValueError(f"{archive}: {member.filename}: cannot be unpacked ({error})")

        def read() -> bytes:
            with reading(archive, problem):
                return opened.read(member)

        return read

    systems, others = [], []
    for member in sorted(opened.infolist(), key=lambda member: member.filename):
        if member.is_dir():
            continue
        if leftover(member.filename):
            systems.append(member.filename)
            continue
        if not _is_image(member.filename, lambda member=member: opened.open(member)):  # type: ignore[misc]
            others.append(member.filename)
            continue
        shown, problem = f"{archive}: {member.filename!r}", leads_outside(member.filename)
        if member.file_size > LARGEST:
            problem = problem or f"declares {member.file_size} bytes; at most {LARGEST} are read"
        name = "" if problem else stem(member.filename)
        yield Entry(name, shown, reader(member), problem and f"{shown} {problem}", ending(member.filename))
    _say(archive, systems, others)


def leads_outside(name: str) -> str:
    """Why a name from elsewhere is no name below a folder; empty for a good one."""
    if re.match(r"[/\\]|[A-Za-z]:", name) or "\\" in name or any(ord(letter) < 32 for letter in name):
        return "is no plain relative name; such images are left out"
    return "leads out of its folder; such images are left out" if ".." in PurePosixPath(name).parts else ""


def _csv(path: Path) -> Iterator[Entry]:
    """Paths, relative to the list's own folder, in a column called image, path, file or filename."""
    columns, rows = spreadsheet.read(path, COLUMNS)
    names = {name.strip().lower(): name for name in columns}
    column = next((names[name] for name in COLUMNS if name in names), None)
    if column is None:
        found = f"found {', '.join(sorted(filter(None, names)))}" if any(names) else "it is empty"
        raise ValueError(f"{path}: its first line names no column {', '.join(COLUMNS)}; {found}")
    listed = [spreadsheet.unquoted(row[column].strip()) for row in rows if row.get(column, "").strip()]
    yield from (_listed(name.encode(), path.parent) for name in listed)


def _stdin() -> Iterator[Entry]:
    """Paths, one a line; or the bytes of one image."""
    content = sys.stdin.buffer.read()
    if b"\0" in content or kind(content[:HEAD]):
        yield Entry("stdin", "the image on stdin", lambda: content)
    else:
        yield from (_listed(line.strip(), Path()) for line in content.splitlines() if line.strip())


def _listed(written: bytes, folder: Path) -> Entry:
    """written: a path as the file system has it, in UTF-8 mostly, whatever the locale."""
    name = os.fsdecode(written)
    path = folder / name
    return _file(path, PurePosixPath(name).name if leads_outside(name) else os.path.normpath(name))


def _told_apart(found: Sequence[Entry]) -> list[Entry]:
    """With their endings the entries that differ in nothing else, so that none overwrites another's results."""
    endings: dict[str, list[str]] = {}
    for entry in found:
        endings.setdefault(entry.name.casefold(), []).append(entry.ending.casefold())
    apart = {name for name, all in endings.items() if name and 1 < len(all) == len(set(all))}
    return [
        replace(entry, name=entry.name + entry.ending) if entry.name.casefold() in apart else entry for entry in found
    ]


def _require_names_apart(found: Sequence[Entry]) -> None:
    first: dict[str, Entry] = {}
    for entry in found:
        other = first.setdefault(entry.name.casefold(), entry)
        if entry.name and other is not entry:
            raise ValueError(
                f"two images are named {entry.name} ({other.shown}, {entry.shown}); their results would overwrite "
                "each other: give them in two calls, with an output folder each"
            )


def _fixed(pattern: str) -> tuple[str, ...]:
    """The folders of a pattern before its first wildcard."""
    parts = Path(pattern).parts
    return parts[: next(number for number, part in enumerate(parts) if glob.has_magic(part))]


def _matches(pattern: str) -> list[str]:
    return sorted(glob.glob(pattern, recursive=True)) if glob.has_magic(pattern) else []


def _inside(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder)
