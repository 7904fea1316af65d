"""A list in a message: a line each, the first of them, and how many more there are."""

from collections.abc import Sequence

SHOWN = 10


def shortlist(lines: Sequence[str], all_in: object = "") -> str:
    """What follows a colon: a single one in the same line. all_in: the file that has them all."""
    if len(lines) == 1:
        return f" {lines[0]}"
    more = len(lines) - SHOWN
    rest = [f"and {more:,} more{f', all in {all_in}' if all_in else ''}"] if more > 0 else []
    return "".join(f"\n  {line}" for line in [*lines[:SHOWN], *rest])
