"""The split into training, validation and test: exact sizes, seeded, and near-duplicates on one side.

Order comes from SHA-256 of seed and id alone, so that it depends on no library, locale, platform or order of files.
"""

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

NAMES = ("train", "validation", "test")


def sizes(images: int, fractions: Sequence[float]) -> tuple[int, int, int]:
    """Of training, validation and test, which takes the rest: 2,594 at 0.8, 0.1, 0.1 gives 2,075 / 259 / 260.

    Raises ValueError when one would be empty.
    """
    train, validation = round(images * fractions[0]), round(images * fractions[1])
    found = (train, validation, images - train - validation)
    if min(found) < 1:
        raise ValueError(f"{images} images at split.fractions {list(fractions)} leave an empty split; add images")
    return found


def assign(groups: Mapping[str, str], fractions: Sequence[float], seed: int, protocol: str) -> dict[str, str]:
    """id -> split. groups: id -> group id.

    `random` shuffles images. `grouped` keeps groups whole: groups of several go first, in shuffled order, each into the
    split with the most room in proportion to its size; single images then fill the splits exactly.
    Raises ValueError when the groups are too large to reach the exact sizes.
    """
    room = dict(zip(NAMES, sizes(len(groups), fractions), strict=True))
    total = dict(room)
    members: dict[str, list[str]] = {}
    for id in sorted(groups):
        members.setdefault(groups[id] if protocol == "grouped" else id, []).append(id)
    shuffled = sorted(members, key=lambda group: (_rank(seed, group), group))
    assigned: dict[str, str] = {}
    for group in [group for group in shuffled if len(members[group]) > 1]:
        fitting = [name for name in NAMES if room[name] >= len(members[group])]
        if not fitting:
            raise ValueError(f"group {group} of {len(members[group])} images fits no split; use split.protocol random")
        target = max(fitting, key=lambda name: (room[name] / total[name], -NAMES.index(name)))
        room[target] -= len(members[group])
        assigned.update(dict.fromkeys(members[group], target))
    singles = iter(group for group in shuffled if len(members[group]) == 1)
    for name in NAMES:
        for _ in range(room[name]):
            assigned[members[next(singles)][0]] = name
    return assigned


def torn_groups(groups: Mapping[str, str], assigned: Mapping[str, str]) -> int:
    """How many groups have members in more than one split."""
    sides: dict[str, set[str]] = {}
    for id, group in groups.items():
        sides.setdefault(group, set()).add(assigned[id])
    return sum(len(side) > 1 for side in sides.values())


def summary(groups: Mapping[str, str], assigned: Mapping[str, str], protocol: str, seed: int) -> dict[str, object]:
    """The content of split.json; `sha256` is of split.csv."""
    counts = Counter(assigned.values())
    several = [count for count in Counter(groups.values()).values() if count > 1]
    return {
        "protocol": protocol,
        "seed": seed,
        "sizes": {name: counts[name] for name in NAMES},
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
