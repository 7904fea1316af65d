"""A folder of one's own, with folders of images and of masks in it, packed into one archive.

`images/` and `masks/` are the plain names. What publishers and people call them is understood where it is unambiguous:
`Original` and `Ground Truth` (CVC-ClinicDB), `…_Data` and `…_GroundTruth` (ISIC), `…_Dermoscopic_Image` and `…_lesion`
(PH2). A file whose ending says nothing, as DICOM's often do, is named by what it holds.
"""

import os
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from hymunet.data.acquire import listing
from hymunet.data.acquire.archives import MAX_MEMBER_BYTES
from hymunet.data.acquire.pairs import LEFT_BEHIND, described, leftover, pair, require_one, say_left_out
from hymunet.data.acquire.sections import Folder
from hymunet.data.acquire.source import ArchiveFile, Source
from hymunet.formats.kinds import ENDED, HEAD, stem, told

HOME = "folder/"
LISTING = f"{HOME}{listing.FILE}"
_WORDS = {  # how a folder's name ends, letters and figures alone
    kind: re.compile(rf"(?i)(^|[^a-z])({words})$")
    for kind, words in (
        ("image", "images?|imgs?|originals?|inputs?|(training|validation|test) data|photos?|pictures?|jpegimages"),
        ("mask", "masks?|ground ?truth|gt|segmentations?|segs?|lesions?|labels?|annotations?"),
    )
}


_OTHER = re.compile(r"(?i)(^|[^a-z])(rois?|superpixels?|overlays?|thumbnails?)$")  # pictures of another purpose


def role(name: str) -> tuple[str, str] | None:
    """`images/` and `masks/` right at the top tell; else the innermost folder whose name does.

    CVC's `Original/1.tif` is the image 1, PH2's `IMD003/IMD003_lesion/IMD003_lesion.bmp` the mask of IMD003/IMD003.
    """
    path = PurePosixPath(name)
    if not ENDED.search(path.name):
        return None
    folders = path.parts[1:-1]  # without the archive's own
    if folders and folders[0].casefold() in ("images", "masks"):
        return folders[0].casefold()[:-1], PurePosixPath(*folders[1:], path.stem).as_posix()
    for place in reversed(range(len(folders))):
        words = re.sub(r"[\W_]+", " ", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", folders[place])).strip()
        if _OTHER.search(words):
            return None
        for kind, pattern in _WORDS.items():
            if pattern.search(words):
                rest = PurePosixPath(*folders[:place], *folders[place + 1 :], path.stem)
                return kind, rest.as_posix()
    return None


def members(section: Folder) -> Iterator[tuple[str, bytes]]:
    """Names and content for the archive. ValueError when the folder is not one of images and masks.

    What is left out is said: leftovers of systems, files that are no images, images that lie in no folder of images or
    masks.
    """
    folder = Path(section.path)
    if not folder.is_dir():
        what = "a file; unpack it, and name the folder" if folder.exists() else "no such folder; name one"
        raise ValueError(f"data.folder.path {folder}: {what} with images/ and masks/ in it")
    found = list(files(folder))
    _refuse(folder, [name for name in found if not leftover(name)])
    if listed := listing.FILE in found:
        found.remove(listing.FILE)
    names = named(folder, [name for name in found if not leftover(name)])
    roles = {name: role(f"{HOME}{packed}") for name, packed in names.items()}
    kinds = {known[0] for known in roles.values() if known}
    if kinds != {"image", "mask"}:
        missing = " and of ".join(f"{kind}s" for kind in ("image", "mask") if kind not in kinds)
        raise ValueError(
            f"data.folder.path {folder}: no folder of {missing} in it; expected images/ and masks/ with matching "
            f"names, found {described(roles)}"
        )
    packed = {f"{HOME}{name}": own for own, name in names.items()}
    pairs = pair({"": packed}, role)
    require_one(pairs, f"data.folder.path {folder}", packed.__getitem__)
    _say(folder, found, names, roles)
    if listed:
        content = (folder / listing.FILE).read_bytes()
        listing.read(content, pairs, folder / listing.FILE)
        yield LISTING, content
    for name in sorted((name for name, known in roles.items() if known), key=lambda name: names[name]):
        yield f"{HOME}{names[name]}", (folder / name).read_bytes()


def _refuse(folder: Path, found: list[str]) -> None:
    """ValueError for names that lead to no content, and for those that the archive cannot hold, all of them at once."""
    images = [name for name in found if ENDED.search(name)]
    plain = {name: unicodedata.normalize("NFC", name).casefold() for name in images}
    count = Counter(plain.values())
    kinds = {
        "links that lead nowhere": [name for name in found if not (folder / name).exists()],
        "pipes or devices": [name for name in images if (folder / name).exists() and not (folder / name).is_file()],
        "names that are not in UTF-8": [name for name in images if os.fsencode(name) != name.encode(errors="replace")],
        "names with a backslash": [name for name in images if "\\" in name],
        "names that differ only in case or in the form of accents": [name for name in images if count[plain[name]] > 1],
    }
    large = f"files of more than {MAX_MEMBER_BYTES / 2**20:.0f} MiB"
    kinds[large] = [
        name for name in images if (folder / name).is_file() and (folder / name).stat().st_size > MAX_MEMBER_BYTES
    ]
    problems = []
    linked = {parent for name in images for parent in PurePosixPath(name).parents if (folder / parent).is_symlink()}
    if behind := sorted(str(parent) for parent in linked if parent.name):
        problems.append(
            f"{len(behind)} folders are links ({', '.join(behind[:3])}), behind which DVC would see no change; link "
            "the files instead (cp -rs), or name the folder itself in data.folder.path"
        )
    for what, names in kinds.items():
        if names:
            shown = (os.fsencode(name).decode(errors="backslashreplace") for name in names)
            problems.append(f"{len(names)} {what} ({described(shown)})")
    if problems:
        raise ValueError(f"{folder}: {'; '.join(problems)}; mend, rename or remove them")


def named(folder: Path, found: Iterable[str], under: str = "folder") -> dict[str, str]:
    """File of `folder` -> its name, with the ending that its content asks for where its own says nothing of images.

    Only files of images and masks are looked into, as `role` tells them below `under`.
    """
    names = {name: name for name in found}
    taken = set(names)
    for name in list(names):
        path = folder / name
        if ENDED.search(name) or role(f"{under}/{name}.png") is None or not path.is_file():
            continue
        ending = told(name, lambda path=path: _head(path))  # type: ignore[misc]
        packed = f"{stem(name)}.{ending}"
        if ending and packed not in taken:
            taken.add(packed)
            names[name] = packed
    return names


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEAD)


def files(folder: Path) -> Iterator[str]:
    """Every file below, by its name; linked folders are entered once. OSError for one that cannot be looked into, but
    for those of systems, as lost+found."""

    def refuse(error: OSError) -> None:
        if not leftover((Path(error.filename).relative_to(folder) / "file").as_posix()):
            raise error

    seen = set()
    for path, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        real = os.path.realpath(path)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        yield from ((Path(path) / file).relative_to(folder).as_posix() for file in sorted(names))


def _say(folder: Path, found: list[str], names: dict[str, str], roles: dict[str, tuple[str, str] | None]) -> None:
    if by_content := [packed for name, packed in names.items() if name != packed]:
        print(
            f"download: {folder}: {len(by_content):,} files told by their content: {described(by_content)}",
            file=sys.stderr,
        )
    say_left_out("download", folder, [name for name in found if name not in roles], LEFT_BEHIND)
    others = [name for name, kind in roles.items() if kind is None]
    say_left_out("download", folder, others, "no image in a folder of images or masks")


SOURCE = Source(archives=(ArchiveFile("folder.zip"),), role=role, members=members, home=HOME, listing=LISTING)
