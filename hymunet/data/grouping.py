"""Images that belong together by what several say of them: what any one puts together is put together."""

from collections.abc import Mapping, Sequence


def united(ids: Sequence[str], *kinds: Mapping[str, str]) -> dict[str, str]:
    """id -> group, named by its first id: images that share a group of any kind share one here, and so on from one to
    the next. kinds: id -> group, each of its own names."""
    members: dict[tuple[int, str], list[str]] = {}
    for number, groups in enumerate(kinds):
        for id in ids:
            members.setdefault((number, groups[id]), []).append(id)
    found: dict[str, str] = {}
    for first in ids:
        waiting = [first]
        while waiting:
            id = waiting.pop()
            if id not in found:
                found[id] = first
                for number, groups in enumerate(kinds):
                    waiting += members.pop((number, groups[id]), [])
    return found


def together(first: Sequence[str], second: Sequence[str]) -> tuple[list[str], bool]:
    """Groups of the same images -> those of both, and whether the two are alike but for their names.

    Where the second adds nothing they are the first's as they are.
    """
    ids = [str(position) for position in range(len(first))]
    both = list(united(ids, dict(zip(ids, first, strict=True)), dict(zip(ids, second, strict=True))).values())
    # Each group of both is one or several of either: as many means the same ones.
    own, other, joined = (len(set(groups)) for groups in (first, second, both))
    return (list(first) if own == joined else both), own == other == joined
