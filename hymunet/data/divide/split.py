"""The split into training, validation and test: exact sizes, seeded, and near-duplicates on one side.

Order comes from SHA-256 of seed and id alone, so that it depends on no library, locale, platform or order of files.
"""

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import islice
from typing import Any

from hymunet.data.splits import NAMES


def sizes(images: int, fractions: Sequence[float]) -> tuple[int, int, int]:
    """Of training, validation and test, which takes the rest: 2,594 at 0.8, 0.1, 0.1 gives 2,075 / 259 / 260.

    Raises ValueError when one would be empty that has a fraction.
    """
    train, validation = round(images * fractions[0]), round(images * fractions[1])
    found = (train, validation, images - train - validation)
    if any(size < 1 for size, fraction in zip(found, fractions, strict=True) if fraction > 0):
        raise ValueError(f"{images} images at split.fractions {list(fractions)} leave an empty split; add images")
    return found


def assign(
    groups: Mapping[str, str],
    fractions: Sequence[float],
    seed: int,
    protocol: str,
    empty: AbstractSet[str] = frozenset(),
) -> dict[str, str]:
    """id -> split. groups: id -> group id. empty: ids of images without a lesion, of which each split gets its share as
    far as groups allow.

    `random` shuffles images. `grouped` keeps groups whole: groups of several go first, in shuffled order, each into the
    split with the most room in proportion to its size; single images then fill the splits exactly. Where groups do not
    come out even, sizes are as near to the fractions as whole groups allow. Raises ValueError for fewer than three.
    """
    wanted = dict(zip(NAMES, sizes(len(groups), fractions), strict=True))
    members: dict[str, list[str]] = {}
    for id in sorted(groups):
        members.setdefault(groups[id] if protocol == "grouped" else id, []).append(id)
    shuffled = sorted(members, key=lambda group: (_rank(seed, group), group))
    if empty:
        shuffled = _spread(
            shuffled, {group: (len(ids) > 1, not empty.isdisjoint(ids)) for group, ids in members.items()}
        )
    without = {group: len(empty & set(ids)) for group, ids in members.items()}
    chosen = _exactly(members, shuffled, wanted, without) or _nearly(members, shuffled, wanted)
    return {id: name for group, name in chosen.items() for id in members[group]}


def _spread(ordered: Sequence[str], kinds: Mapping[str, Hashable]) -> list[str]:
    """So that every stretch holds its share of each kind; within a kind the order stays."""
    counts, seen, place = Counter(kinds[one] for one in ordered), Counter[Hashable](), {}
    for one in ordered:
        seen[kinds[one]] += 1
        place[one] = (seen[kinds[one]] - 0.5) / counts[kinds[one]]
    return sorted(ordered, key=place.__getitem__)


def _exactly(
    members: Mapping[str, Sequence[str]],
    shuffled: Sequence[str],
    wanted: Mapping[str, int],
    without: Mapping[str, int],
) -> dict[str, str] | None:
    """group -> split with exactly the sizes wanted; None where this simple way does not come out even.

    without: how many images of a group have no lesion; such a group goes where they are wanted most.
    """
    room, chosen = dict(wanted), {}
    share = sum(without.values()) / sum(wanted.values())
    lacking = {name: share * size for name, size in wanted.items()}
    several = [group for group in shuffled if len(members[group]) > 1]
    for group in [*several, *(group for group in shuffled if len(members[group]) == 1 and without[group])]:
        fitting = [name for name in NAMES if room[name] >= len(members[group])]
        if not fitting:
            return None
        need = lacking if without[group] else room
        if len(members[group]) > 1:  # in proportion, so that what is small is not left to the last
            need = {name: need[name] / wanted[name] for name in fitting}
        target = max(fitting, key=lambda name: (need[name], -NAMES.index(name)))
        room[target] -= len(members[group])
        lacking[target] -= without[group]
        chosen[group] = target
    singles = iter(group for group in shuffled if group not in chosen)
    for name in NAMES:
        chosen.update(dict.fromkeys(islice(singles, room[name]), name))
    return chosen


def _nearly(members: Mapping[str, Sequence[str]], shuffled: Sequence[str], wanted: Mapping[str, int]) -> dict[str, str]:
    """group -> split: whole groups that come nearest in number, for test, then for validation; the rest trains."""
    if len(members) < len(NAMES):
        raise ValueError(
            f"{len(members)} groups of images that belong together cannot be kept apart in {len(NAMES)} splits; add "
            "other images"
        )
    chosen, left = {}, list(shuffled)
    for position, name in enumerate(NAMES[:0:-1]):
        later = 2 - position  # splits that still need a group
        taken = _nearest_sum([len(members[group]) for group in left], wanted[name], len(left) - later)
        chosen.update({left[index]: name for index in taken})
        left = [group for index, group in enumerate(left) if index not in taken]
    chosen.update(dict.fromkeys(left, NAMES[0]))
    return _better({group: chosen[group] for group in shuffled}, members, wanted) if len(members) <= 300 else chosen


def _better(chosen: dict[str, str], members: Mapping[str, Sequence[str]], wanted: Mapping[str, int]) -> dict[str, str]:
    """The same with groups moved or exchanged as long as all three sizes together come nearer."""
    length = {group: len(members[group]) for group in chosen}
    while True:
        off = {name: sum(length[group] for group in chosen if chosen[group] == name) - wanted[name] for name in NAMES}
        count = Counter(chosen.values())
        best: tuple[int, str, str, str | None] | None = None
        for group, here in chosen.items():
            partners = [
                (other, there) for other, there in chosen.items() if there != here and length[other] < length[group]
            ]
            moves = [(None, there) for there in NAMES if there != here and count[here] > 1]
            for other, there in [*moves, *partners]:
                moved = length[group] - (length[other] if other else 0)
                gain = off[here] ** 2 + off[there] ** 2 - (off[here] - moved) ** 2 - (off[there] + moved) ** 2
                if gain > (best[0] if best else 0):
                    best = (gain, group, there, other)
        if best is None:
            return chosen
        _, group, there, other = best
        if other:
            chosen[other] = chosen[group]
        chosen[group] = there


def _nearest_sum(lengths: Sequence[int], wanted: int, most: int) -> set[int]:
    """Positions, one to `most` of them, whose lengths add up as near to `wanted` as any; the earlier the better."""
    by: dict[int, tuple[int, int, int]] = {0: (-1, 0, 0)}  # sum -> last position, sum before it, how many
    limit = max(wanted * 2, min(lengths))
    for position, length in enumerate(lengths):
        if wanted in by and by[wanted][2]:
            break
        for total, (_, _, count) in list(by.items()):
            if total + length <= limit and total + length not in by and count < most:
                by[total + length] = (position, total, count + 1)
    total = min((one for one in by if one), key=lambda one: (abs(one - wanted), one))
    taken = set()
    while total:
        position, total, _ = by[total]
        taken.add(position)
    return taken


def torn_groups(groups: Mapping[str, str], assigned: Mapping[str, str]) -> int:
    """How many groups have members in more than one split."""
    sides: dict[str, set[str]] = {}
    for id, group in groups.items():
        sides.setdefault(group, set()).add(assigned[id])
    return sum(len(side) > 1 for side in sides.values())


def summary(
    groups: Mapping[str, str],
    assigned: Mapping[str, str],
    protocol: str,
    seed: int,
    fractions: Sequence[float] | None = None,
) -> dict[str, Any]:
    """The content of split.json; `sha256` is of split.csv. `wanted`: the sizes that the fractions ask for."""
    counts = Counter(assigned.values())
    several = [count for count in Counter(groups.values()).values() if count > 1]
    return {
        "protocol": protocol,
        "seed": seed,
        "sizes": {name: counts[name] for name in NAMES},
        **({"wanted": dict(zip(NAMES, sizes(len(groups), fractions), strict=True))} if fractions else {}),
        "groups_of_several": len(several),
        "images_in_groups": sum(several),
        "torn_groups": torn_groups(groups, assigned),
        "sha256": hashlib.sha256(to_csv(groups, assigned).encode()).hexdigest(),
    }


def to_csv(groups: Mapping[str, str], assigned: Mapping[str, str]) -> str:
    """split.csv: id, group, split, sorted by id."""
    return _csv(("id", "group", "split"), ((id, groups[id], assigned[id]) for id in sorted(groups)))


def near_duplicates_csv(groups: Mapping[str, str], ids: Iterable[str]) -> str:
    """Group and id of every image that is not alone in its group, in the order of ids."""
    shared = {group for id, group in groups.items() if id != group}
    return _csv(("group", "id"), ((groups[id], id) for id in ids if groups[id] in shared))


def _csv(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Quoted where a name needs it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def _rank(seed: int, name: str) -> str:
    return hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()
