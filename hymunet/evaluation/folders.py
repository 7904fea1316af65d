"""Cases from two folders of files, images and masks with matching names: a test set that nobody has prepared."""

import os
from pathlib import Path

import cv2

from hymunet.data.acquire import folder
from hymunet.data.acquire.pairs import Pair, pair
from hymunet.data.prepare.decode import decode_like
from hymunet.data.prepare.manifest import facts
from hymunet.data.prepare.masks import read_mask
from hymunet.data.prepare.orientation import SHOWN
from hymunet.evaluation.cases import Case
from hymunet.images import resize


class FolderCases:
    """Image files and mask files with matching names in two folders, read one at a time.

    problems: what is wrong with which name, as far as names tell: those are no cases. An image without a lesion is one.
    """

    groups = None
    source = "folder"

    def __init__(self, images: Path, masks: Path, size: int) -> None:
        self._size = size
        places = {"images": images, "masks": masks}
        names = [f"x/{kind}/{name}" for kind, place in places.items() for name in _files(place)]
        pairs = pair({"": names}, folder.role)
        self.problems = {one.id: one.problem for one in pairs if one.problem}
        self._pairs = [one for one in pairs if not one.problem]
        self._places = places
        self.ids = [one.id for one in self._pairs]
        if not self._pairs:
            found = "; ".join(f"{id}: {reason}" for id, reason in list(self.problems.items())[:5]) or "no image file"
            raise ValueError(f"{images} and {masks}: no image with its mask ({found}); names must match")

    def __getitem__(self, position: int) -> Case:
        one = self._pairs[position]
        image, mask = (self._path(one, kind).read_bytes() for kind in ("image", "mask"))
        native = read_mask(mask)
        pixels = decode_like(image, native, self._size, SHOWN)
        truth = cv2.resize(native, (self._size, self._size), interpolation=cv2.INTER_NEAREST_EXACT)
        return Case(one.id, resize(pixels, self._size), truth, native, facts(image, mask, pixels, native))

    def _path(self, one: Pair, kind: str) -> Path:
        place = one.image if kind == "image" else one.mask
        assert place is not None
        _, folder_name, name = place[1].split("/", 2)
        return self._places[folder_name] / name


def _files(place: Path) -> list[str]:
    if not place.is_dir():
        raise ValueError(f"{place}: no such folder; name one with image files in it")
    found = (Path(path) / name for path, _, names in os.walk(place, followlinks=True) for name in names)
    return sorted(path.relative_to(place).as_posix() for path in found)
