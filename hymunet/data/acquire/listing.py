"""`groups.csv`, beside the images of a folder: which belong together, as one patient's do, and a split of one's own."""

import csv
import io
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from hymunet.data import splits
from hymunet.data.acquire.pairs import Pair

FILE = "groups.csv"
IMAGE, GROUP, SPLIT = "image", "group", "split"
_SHOWN = 3


class Entry(NamedTuple):
    """group: a name that images share which belong together. split: a name of one. Each empty without its column."""

    group: str
    split: str


def read(content: bytes, pairs: Sequence[Pair], place: object) -> dict[str, Entry]:
    """The text of a listing -> id -> its entry, of every pair.

    content: CSV in UTF-8, columns apart by commas, semicolons or tabs: `image`, and `group`, `split` or both. An image
    is named by its id or by its file. place: what errors call the file. Raises ValueError, with line and remedy, unless
    every image has one line, every line an image, and where there is a split each part of it some.
    """
    entries = _entries(content, pairs, place)
    filled = {entry.split for entry in entries.values()}
    if any(filled) and (empty := [name for name in splits.NAMES if name not in filled]):
        raise ValueError(
            f"{place}: no image has the split {' or '.join(empty)}; each of {', '.join(splits.NAMES)} needs some"
        )
    return entries


def groups(content: bytes, pairs: Sequence[Pair], place: object) -> dict[str, str] | None:
    """As `read`, of images that are not divided again: id -> its group; None without that column."""
    found = {id: entry.group for id, entry in _entries(content, pairs, place).items()}
    return found if any(found.values()) else None


def _entries(content: bytes, pairs: Sequence[Pair], place: object) -> dict[str, Entry]:
    lines = _table(content, place)
    known = _names(pairs)
    entries: dict[str, Entry] = {}
    unknown: list[str] = []
    said: set[str] = set()
    twins = {pair.id for pair in pairs if pair.twins}  # bad pairs, of which each file may have its line
    for number, row in lines:
        image, group, split = (unicodedata.normalize("NFC", row[name].strip()) for name in (IMAGE, GROUP, SPLIT))
        id = known.get(image)
        if id is None:
            unknown.append(f"{image!r} (line {number})")
            continue
        if id in entries and (id not in twins or image in said):
            raise ValueError(f"{place}, line {number}: {image!r} has a line already; leave one")
        said.add(image)
        entries.setdefault(id, Entry(group, split))
    if unknown:
        raise ValueError(
            f"{place}: {len(unknown)} lines name no image that is here, or several: {_first(unknown)}; write an "
            f"image's name as its file has it, such as {_first(known, 1)}"
        )
    if missing := [pair.id for pair in pairs if pair.image and pair.id not in entries]:
        raise ValueError(f"{place}: {len(missing)} images have no line: {_first(missing)}; every image needs one")
    return entries


def _table(content: bytes, place: object) -> list[tuple[int, dict[str, str]]]:
    """Line numbers and rows, all with the three columns."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{place}: not in UTF-8; save it as CSV UTF-8") from None
    header = text.split("\n", 1)[0]
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=header.count), strict=True)
    columns = [name.strip().casefold() for name in reader.fieldnames or ()]
    given = {name for name in (GROUP, SPLIT) if name in columns}
    if IMAGE not in columns or not given or len(set(columns)) < len(columns):
        raise ValueError(
            f"{place}: the first line names the columns {IMAGE} and {GROUP}, {SPLIT} or both, each once; it has "
            f"{', '.join(columns) or 'none'}"
        )
    reader.fieldnames = columns
    lines = []
    try:
        for row in reader:
            number = reader.line_num
            if None in row or None in row.values():
                raise ValueError(f"{place}, line {number}: not {len(columns)} columns, as the first line has")
            for name in sorted(given):
                if not row[name].strip():
                    raise ValueError(f"{place}, line {number}: {name} is empty; an image alone has a {name} of its own")
            if SPLIT in given and row[SPLIT].strip() not in splits.NAMES:
                raise ValueError(
                    f"{place}, line {number}: split is {row[SPLIT]!r}; it may be {', '.join(splits.NAMES)}"
                )
            lines.append((number, {GROUP: "", SPLIT: ""} | row))
    except csv.Error as error:
        raise ValueError(f"{place}, from line {reader.line_num} on: {error}; save it as CSV again") from None
    return lines


def _names(pairs: Iterable[Pair]) -> dict[str, str]:
    """What an image may be called -> its id: the id, and where it is the only one of that name, its file."""
    ids = {pair.id: pair.id for pair in pairs}
    files = [(PurePosixPath(name), pair.id) for pair in pairs if pair.image for name in (pair.image[1], *pair.twins)]
    shown = {f"{id}{path.suffix}": id for path, id in files}
    count = Counter(name for path, _ in files for name in {path.name, path.stem})
    alone = {
        unicodedata.normalize("NFC", name): id
        for path, id in files
        for name in (path.name, path.stem)
        if count[name] == 1
    }
    return alone | shown | ids


def _first(names: Iterable[str], count: int = _SHOWN) -> str:
    listed = list(names)
    return ", ".join(listed[:count]) + (" …" if len(listed) > count > 1 else "")
