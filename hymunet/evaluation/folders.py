"""Cases from files, images and masks with matching names: a test set that nobody has prepared."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import cv2

from hymunet.data.acquire import folder
from hymunet.data.acquire.pairs import Pair, described, leftover, pair
from hymunet.data.prepare.decode import decode_like
from hymunet.data.prepare.manifest import facts
from hymunet.data.prepare.masks import read_mask
from hymunet.data.prepare.orientation import SHOWN
from hymunet.evaluation.cases import Case
from hymunet.images import resize


class FolderCases:
    """Read one at a time. A half without its other is a case that cannot be used; an image without a lesion is one.

    Where EXIF turns an image and its mask fits both ways, the mask is taken as drawn on the image as shown.
    """

    groups = None
    source = "folder"

    def __init__(self, files: Mapping[str, Path], size: int, what: str) -> None:
        """files: by names that `folder.role` understands. size: of the model's grid. Raises ValueError, calling the
        files `what`, where there is no image with a mask."""
        self._files, self._size = files, size
        self._pairs = pair({"": files}, folder.role)
        self.ids = [one.id for one in self._pairs]
        if not any(one.image and one.mask for one in self._pairs):
            raise ValueError(
                f"{what}: no image with its mask; a mask has its image's name, with or without an ending as _mask or "
                f"_segmentation; found {described(files)}"
            )

    @classmethod
    def of_two(cls, images: Path, masks: Path, size: int) -> Self:
        """Images in one folder, their masks in another."""
        if images.resolve() == masks.resolve():
            raise ValueError(f"{images}: is named for images and for masks; they must lie in folders of their own")
        files = {
            f"x/{kind}/{name}": path
            for kind, place in (("images", images), ("masks", masks))
            for name, path in _files(place, f"x/{kind}").items()
        }
        return cls(files, size, f"{images} and {masks}")

    @classmethod
    def of_one(cls, place: Path, size: int) -> Self:
        """A folder that holds both, laid out as `data.folder` may be: images/ and masks/, or as publishers do."""
        return cls({f"x/{name}": path for name, path in _files(place, "x").items()}, size, str(place))

    def __getitem__(self, position: int) -> Case:
        one = self._pairs[position]
        if one.problem:
            raise ValueError(one.problem)
        image, mask = (self._read(one, kind) for kind in ("image", "mask"))
        native = read_mask(mask)
        pixels = decode_like(image, native, self._size, SHOWN)
        truth = cv2.resize(native, (self._size, self._size), interpolation=cv2.INTER_NEAREST_EXACT)
        return Case(one.id, resize(pixels, self._size), truth, native, facts(image, mask, pixels, native))

    def _read(self, one: Pair, kind: str) -> bytes:
        place = one.image if kind == "image" else one.mask
        assert place is not None
        return self._files[place[1]].read_bytes()


def _files(place: Path, under: str) -> dict[str, Path]:
    """Every file below, by its name there, as `folder.named` has it; without what systems leave behind."""
    if not place.is_dir():
        raise ValueError(f"{place}: no such folder; name one with image files in it")
    found = (Path(path) / name for path, _, names in os.walk(place, followlinks=True) for name in names)
    names = sorted(path.relative_to(place).as_posix() for path in found if path.is_file() or not path.exists())
    kept = folder.named(place, [name for name in names if not leftover(name)], under)
    return {name: place / file for file, name in kept.items()}
