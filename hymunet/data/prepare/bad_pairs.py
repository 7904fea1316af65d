"""What of a set cannot be used, and its images without a lesion: held to what is allowed, and said in people's names.

A message names the folder that people know, and in it the file that is to be mended.
"""

import csv
import io
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from hymunet import atomic
from hymunet.data.acquire.pairs import Pair
from hymunet.data.acquire.source import Source
from hymunet.data.prepare.decode import EMPTY
from hymunet.formats import spreadsheet
from hymunet.shortlist import SHOWN, shortlist

LIST = "bad_pairs.csv"  # of what is refused, where a message has no room for all


def known_place(raw: Path, own: Path | None, source: Source, pairs: Iterable[Pair]) -> Path:
    """The folder `own` where the pairs came from it, as far as its files tell; else `raw`."""
    names = (source.shown(place[1]) for pair in pairs for place in (pair.image, pair.mask) if place)
    return own if own and source.home and any((own / name).is_file() for name in names) else raw


def require_few(
    place: Path,
    source: Source,
    pairs: Sequence[Pair],
    problems: Mapping[str, str],
    on_bad_pair: str,
    max_dropped: float,
    record: Path,
) -> None:
    """Says what is left out. ValueError where no pair is left, or more cannot be used than may be left out.

    place: the folder that messages name. problems: id -> what is wrong. record: the file that will hold all problems
    when they are left out; beside it LIST is written when they are refused and too many for a message.
    """
    if not problems:
        return
    rows = [
        (one.id, source.shown(one.concerned(problems[one.id])), problems[one.id]) for one in pairs if one.id in problems
    ]
    lines = [f"{file}: {reason}" for _, file, reason in rows]
    found = f"{place}: {len(rows):,} of {len(pairs):,} pairs cannot be used"
    if len(rows) == len(pairs):
        remedy = "nothing is left to prepare"
    elif on_bad_pair == "stop":
        remedy = "mend them, or set prepare.on_bad_pair to drop"
        if EMPTY in problems.values():
            remedy += "; for images without a lesion, say how many at most: prepare.max_without_lesion"
    elif len(rows) > max_dropped * len(pairs):
        remedy = f"prepare.max_dropped allows {max_dropped:.1%}; mend them, or allow more"
    else:
        print(f"prepare: {found} and are left out:{shortlist(lines, record)}", file=sys.stderr)
        return
    listed = record.with_name(LIST)
    if len(rows) > SHOWN:
        _write(rows, listed)
    raise ValueError(f"{found}; {remedy}:{shortlist(lines, listed)}")


def without_lesion(
    place: Path, source: Source, pairs: Sequence[Pair], empty: Sequence[str], used: int, most: float
) -> int:
    """How many images have an empty mask, which is said. ValueError for more than the part `most` of all pairs.

    empty: ids of these images. used: how many can be used, they among them. The rest as in `require_few`.
    """
    if not empty:
        return 0
    names = {one.id: source.shown(one.concerned(EMPTY)) for one in pairs}
    found = f"{place}: {len(empty):,} of {len(pairs):,} images are without a lesion, their masks are empty"
    listed = shortlist([names[id] for id in empty])
    if len(empty) > most * len(pairs):
        raise ValueError(
            f"{found}; prepare.max_without_lesion allows {most:.1%}; export the masks again, or, where these images "
            f"show no lesion, allow more:{listed}"
        )
    if len(empty) == used:
        raise ValueError(f"{found}; no image is left that shows one; there is nothing to learn:{listed}")
    print(f"prepare: {found}:{listed}", file=sys.stderr)
    return len(empty)


def _write(rows: Iterable[tuple[str, str, str]], path: Path) -> None:
    text = io.StringIO()
    shown = (map(spreadsheet.quoted, row) for row in rows)
    csv.writer(text, lineterminator="\n").writerows([("id", "file", "reason"), *shown])
    atomic.write(path, text.getvalue())
