"""`groups.csv` beside the arrays: which images belong together, as their owner says; there only where one did."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from hymunet import atomic

GROUPS = "groups.csv"


def write_groups(groups: Mapping[str, str], path: Path) -> None:
    """groups: id -> group."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([("id", "group"), *groups.items()])
    atomic.write(path, text.getvalue())


def read_groups(path: Path, ids: Sequence[str]) -> dict[str, str] | None:
    """id -> group; None where nobody said. ValueError, naming the file, unless it is of these images."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not in UTF-8; run the prepare step again") from None
    rows = list(csv.reader(io.StringIO(text)))
    groups = {row[0]: row[1] for row in rows[1:] if len(row) == 2}
    if rows[:1] != [["id", "group"]] or len(groups) != len(rows) - 1 or list(groups) != list(ids):
        raise ValueError(f"{path}: not the groups of the images beside it; run the prepare step again")
    return groups
