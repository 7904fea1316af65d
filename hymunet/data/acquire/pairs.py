"""Images and masks found by their names, and paired.

Nothing is lost in silence: a half without its other, a name that occurs twice and an image of a kind that is not read
are pairs with a problem; what systems leave behind is told apart from what people put there.
"""

import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from hymunet.formats.kinds import NAMED

# Of a Mac, Windows, a NAS, a notebook, version control, a DICOM disc; and ISIC's own superpixels, among its images.
_LEFT_FOLDERS = {
    *("__macosx", "network trash folder", "temporary items", "$recycle.bin", "recycler", "system volume information"),
    *("@eadir", "@tmp", "#recycle", "#snapshot", "@recycle", "@__thumb", "@recently-snapshot", "lost+found"),
    "__pycache__",
}
_LEFT_FILES = re.compile(
    r"(?i)thumbs\.db|ehthumbs.*\.db|desktop\.ini|dicomdir|icon\r?|~.*|.*~|.*\.(tmp|part|crdownload|lnk)"
)
_SUPERPIXELS = re.compile(r"(?i)ISIC_\d+_superpixels\.png")
_MASK_ENDS = re.compile(
    r"(?i)[ _-]+(segmentations?|segmented|seg|masks?|lesions?|gt|ground[ _-]?truth|labels?|annotations?)$"
)


@dataclass(frozen=True)
class Pair:
    """Where an image and its mask lie: (archive name, member name) each; None where there is none."""

    id: str
    image: tuple[str, str] | None
    mask: tuple[str, str] | None
    problem: str = ""  # why it cannot be used, as far as names tell
    twins: tuple[str, ...] = ()  # members that are images of this name, too

    def concerned(self, reason: str) -> str:
        """The member that a reason is about: the mask's where it begins with it, or there is no image."""
        place = self.mask if self.image is None or (self.mask and reason.startswith("mask")) else self.image
        return place[1] if place else self.id


Place = tuple[str, str]  # archive, member
Role = Callable[[str], tuple[str, str] | None]  # a member's name -> "image" or "mask", and the name that pairs it


def leftover(name: str) -> bool:
    """True for a file that a system or a program left behind: hidden, AppleDouble, thumbnails and their like."""
    *folders, file = PurePosixPath(name).parts or ("",)
    hidden = any(part.startswith(".") and part not in (".", "..") for part in (*folders, file))
    if hidden or any(folder.casefold() in _LEFT_FOLDERS for folder in folders):
        return True
    return bool(_LEFT_FILES.fullmatch(file) or _SUPERPIXELS.fullmatch(file))


LEFT_BEHIND = "left behind by systems"  # as `leftover` tells them


def by_pattern(image: str, mask: str) -> Role:
    """The first group of the pattern that matches a whole name pairs it."""

    def role(name: str) -> tuple[str, str] | None:
        for kind, pattern in (("image", image), ("mask", mask)):
            if match := re.fullmatch(pattern, name):
                return kind, match[1]
        return None

    return role


def pair(members: Mapping[str, Iterable[str]], role: Role, shown: Callable[[str], str] = str) -> list[Pair]:
    """members: archive name -> member names. Pairs sorted by id, which is the image's name. shown: a member's name ->
    as people know it.

    A mask belongs to the image of its own name, else to that of its name without an ending as `_mask`, with the form of
    accents and, where that is unambiguous, case ignored.
    """
    images: dict[str, list[Place]] = {}
    masks: list[tuple[str, Place]] = []
    for archive, names in members.items():
        for name in names:
            if leftover(name) or (found := role(name)) is None:
                continue
            kind, id = found[0], unicodedata.normalize("NFC", found[1])
            if kind == "image":
                images.setdefault(id, []).append((archive, name))
            else:
                masks.append((id, (archive, name)))
    folded = Counter(id.casefold() for id in images)
    known = {id.casefold(): id for id in images if folded[id.casefold()] == 1}
    belonging: dict[str, list[Place]] = {}
    for id, place in masks:
        short = _MASK_ENDS.sub("", id)
        target = next((one for one in (id, short) if one in images), None)
        target = target or known.get(id.casefold()) or known.get(short.casefold()) or id
        belonging.setdefault(target, []).append(place)
    pairs = [_pair(id, images.get(id, []), belonging.get(id, []), shown) for id in sorted({*images, *belonging})]
    example = next((one for one in pairs if not one.problem), None)
    for position, one in enumerate(pairs):
        if not one.problem:
            example = one  # the nearest before it lies in the same folder, if any does
        elif example and (one.image is None or one.mask is None):
            expected = [shown(name) for name in _expected(one, example, role)]
            pairs[position] = replace(
                one, problem=f"{one.problem}; expected {' or '.join(expected)}" if expected else one.problem
            )
    return sorted(pairs, key=lambda one: one.id)  # a name that is written out, as repr does, has another place


def _expected(half: Pair, example: Pair, role: Role) -> list[str]:
    """What the other half may be called, as that of a whole pair is: only names that would be paired with it."""
    kind, place, id = ("mask", example.mask, half.id) if half.mask is None else ("image", example.image, half.id)
    if kind == "image":
        id = _MASK_ENDS.sub("", id)
    path = PurePosixPath(place[1] if place else "")
    own, other = PurePosixPath(id).name, PurePosixPath(example.id).name
    names = [_renamed(path, example.id, id), _renamed(path, other, own)]
    names += [str(path.with_name(f"{own}{end}{path.suffix}")) for end in ("", "_mask") if kind == "mask"]
    fitting = []
    for name in dict.fromkeys(names):
        told = role(name)
        if told and told[0] == kind and id in (told[1], _MASK_ENDS.sub("", told[1])):
            fitting.append(name)
    return fitting[:2]


def _renamed(path: PurePosixPath, old: str, new: str) -> str:
    return re.sub(rf"(?<![^\W_]){re.escape(old)}(?![^\W_])", lambda _: new, str(path))


def require_one(pairs: Iterable[Pair], what: object, names: Callable[[str], str] = str) -> None:
    """ValueError, calling the files `what`, where no image has a mask. names: a member's name -> as people know it."""
    halves: dict[str, str] = {}
    for one in pairs:
        if one.image and one.mask:
            return
        kind, place = ("image", one.image) if one.image else ("mask", one.mask)
        halves.setdefault(kind, names(place[1]) if place else "")
    found = " and ".join(f"the {kind} {halves[kind]}" if kind in halves else f"no {kind}" for kind in ("image", "mask"))
    raise ValueError(
        f"{what}: no image with its mask; a mask has its image's name, with or without an ending as _mask or "
        f"_segmentation; found {found}"
    )


def _pair(id: str, images: list[Place], masks: list[Place], shown: Callable[[str], str]) -> Pair:
    problem = ""
    for kind, places in (("image", images), ("mask", masks)):
        if not places:
            problem = f"no {kind}"
        elif len(places) > 1:
            problem = f"{len(places)} {kind}s of this name: {', '.join(sorted(shown(name) for _, name in places)[:4])}"
        elif not NAMED.search(places[0][1]):
            problem = f"{kind} {shown(places[0][1])} is of a kind that is not read; convert it to PNG"
        if problem:
            break
    id = id if id.isprintable() else repr(id)
    twins = tuple(name for _, name in images[1:])
    return Pair(id, images[0] if images else None, masks[0] if masks else None, problem, twins)


def described(names: Iterable[str], count: int = 4) -> str:
    """What some names are, in short: their kinds with numbers, and the first of them."""
    listed = list(names)
    kinds = Counter(PurePosixPath(name).suffix.lower() or "without ending" for name in listed)
    numbers = ", ".join(f"{number:,} {kind}" for kind, number in kinds.most_common(count))
    more = f" and {len(kinds) - count} more kinds" if len(kinds) > count else ""
    return f"{numbers}{more}, as {', '.join(sorted(listed)[:3])}" if listed else "nothing"


def say_left_out(program: str, place: object, names: Sequence[str], what: str) -> None:
    """One line on standard error, for files that are there and are not used; none where there are none."""
    if names:
        print(f"{program}: {place}: {len(names):,} files left out, {what}: {described(names)}", file=sys.stderr)
