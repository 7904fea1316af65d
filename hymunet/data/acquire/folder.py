"""A folder of one's own, with folders of images and of masks in it, packed into one archive.

`images/` and `masks/` are the plain names. What publishers and people call them is understood where it is unambiguous:
`Original` and `Ground Truth` (CVC-ClinicDB), `…_Data` and `…_GroundTruth` (ISIC), `…_Dermoscopic_Image` and `…_lesion`
(PH2).
"""

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from hymunet.data.acquire.pairs import READ, UNREAD, described, leftover
from hymunet.data.acquire.sections import Folder
from hymunet.data.acquire.source import ArchiveFile, Source

_IMAGE = re.compile(rf"(?i)\.({READ}|{UNREAD})$")
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
    if not _IMAGE.search(path.name):
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

    Linked folders are followed. What is left out is said: leftovers of systems, files that are no images, images that
    lie in no folder of images or masks.
    """
    folder = Path(section.path)
    if not folder.is_dir():
        raise ValueError(f"data.folder.path {folder}: no such folder; name one with images/ and masks/ in it")
    found = list(_files(folder))
    broken = [name for name in found if not (folder / name).exists()]
    if broken:
        raise ValueError(f"{folder}: {len(broken)} links lead nowhere ({described(broken)}); mend or remove them")
    roles = {name: role(f"folder/{name}") for name in found if not leftover(name)}
    kinds = {found[0] for found in roles.values() if found}
    if kinds != {"image", "mask"}:
        missing = " and of ".join(f"{kind}s" for kind in ("image", "mask") if kind not in kinds)
        raise ValueError(
            f"data.folder.path {folder}: no folder of {missing} in it; expected images/ and masks/ with matching "
            f"names, found {described(roles)}"
        )
    _say(folder, found, roles)
    for name in sorted(name for name, kind in roles.items() if kind):
        yield f"folder/{name}", (folder / name).read_bytes()


def _files(folder: Path) -> Iterator[str]:
    """Every file below, by its name; linked folders are entered once."""
    seen = set()
    for path, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(path)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        yield from ((Path(path) / file).relative_to(folder).as_posix() for file in sorted(files))


def _say(folder: Path, found: list[str], roles: dict[str, tuple[str, str] | None]) -> None:
    systems = [name for name in found if name not in roles]
    others = [name for name, kind in roles.items() if kind is None]
    for names, what in ((systems, "left behind by systems"), (others, "no image in a folder of images or masks")):
        if names:
            print(f"download: {folder}: {len(names):,} files left out, {what}: {described(names)}", file=sys.stderr)


SOURCE = Source(archives=(ArchiveFile("folder.zip"),), role=role, members=members)
