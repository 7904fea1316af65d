"""Cases from files, images and masks with matching names: a test set that nobody has prepared."""

from collections.abc import Mapping
from pathlib import Path
from typing import Self

from hymunet.data.acquire import folder, listing
from hymunet.data.acquire.pairs import LEFT_BEHIND, Pair, leftover, pair, require_one, say_left_out
from hymunet.data.prepare.decode import decode_under, on_grid
from hymunet.data.prepare.manifest import facts
from hymunet.data.prepare.masks import read_mask
from hymunet.data.prepare.orientation import ALL, Read, drawn_on
from hymunet.evaluation.cases import Case, GroupedBy, require_several
from hymunet.images import resize


class FolderCases:
    """Read one at a time. A half without its other is a case that cannot be used; an image without a lesion is one.

    masks_on: `shown` or `stored`, what masks are drawn on where EXIF turns an image; None: the set tells, as it does
    for the prepare step.
    """

    source = "folder"

    def __init__(
        self,
        files: Mapping[str, Path],
        size: int,
        what: str,
        places: Mapping[str, Path],
        masks_on: str | None = None,
        listed: Path | None = None,
    ) -> None:
        """files: by names that `folder.role` understands. size: of the model's grid. places: how names begin -> the
        folder that stands for. listed: a file as `listing` has
        it, whose groups count. Raises ValueError, calling the files `what`, where there is no image with a mask, and
        for a listing that is not of them or has one group alone."""
        self._files, self._size, self._places = files, size, places
        self._pairs = pair({"": files}, folder.role, self._shown)
        self.ids = [one.id for one in self._pairs]
        require_one(self._pairs, what, self._shown)
        self.groups = self._groups(listed) if listed else None
        self.grouped_by: GroupedBy | None = "groups.csv" if self.groups else None
        whole = [one for one in self._pairs if not one.problem and one.image and one.mask]
        self._masks_on = masks_on or drawn_on(
            ((self._reading(one, "image"), self._reading(one, "mask")) for one in whole), "evaluate"
        )

    @classmethod
    def of_two(
        cls, images: Path, masks: Path, size: int, masks_on: str | None = None, listed: Path | None = None
    ) -> Self:
        """Images in one folder, their masks in another. ValueError, also, for a listing without groups."""
        if images.resolve() == masks.resolve():
            raise ValueError(f"{images}: is named for images and for masks; they must lie in folders of their own")
        files = {
            f"x/{kind}/{name}": path
            for kind, place in (("images", images), ("masks", masks))
            for name, path in _files(place, f"x/{kind}", listed).items()
        }
        places = {"x/images/": images, "x/masks/": masks}
        found = cls(files, size, f"{images} and {masks}", places, masks_on, listed)
        if listed and not found.groups:
            raise ValueError(f"{listed}: has no column {listing.GROUP}; say in it which images belong together")
        return found

    @classmethod
    def of_one(cls, place: Path, size: int, masks_on: str | None = None) -> Self:
        """A folder that holds both, laid out as `data.folder` may be: images/ and masks/, or as publishers do."""
        listed = place / listing.FILE
        files = {f"x/{name}": path for name, path in _files(place, "x", listed).items()}
        return cls(files, size, str(place), {"x/": place}, masks_on, listed if listed.is_file() else None)

    def __getitem__(self, position: int) -> Case:
        one = self._pairs[position]
        if one.problem:
            raise ValueError(one.problem)
        image, mask = (self._reading(one, kind)(ALL) for kind in ("image", "mask"))
        native = read_mask(mask)
        pixels = decode_under(image, mask, native, self._size, self._masks_on)
        truth = on_grid(native, self._size)
        return Case(one.id, resize(pixels, self._size), truth, native, facts(image, mask, pixels, native))

    def _shown(self, name: str) -> str:
        """The path of a file, and of one that could be there."""
        if name in self._files:
            return str(self._files[name])
        return next(
            (str(place / name.removeprefix(top)) for top, place in self._places.items() if name.startswith(top))
        )

    def _groups(self, listed: Path) -> list[str] | None:
        found = listing.groups(listed.read_bytes(), self._pairs, listed)
        require_several(list((found or {}).values()), listed)
        return [found.get(id, id) for id in self.ids] if found else None

    def _reading(self, one: Pair, kind: str) -> Read:
        place = one.image if kind == "image" else one.mask
        assert place is not None
        path = self._files[place[1]]

        def read(count: int) -> bytes:
            with path.open("rb") as file:
                return file.read(count)

        return read


def require_folder_of_files(place: Path) -> None:
    if not place.is_dir():
        raise ValueError(f"{place}: no such folder; name one with image files in it")


def _same(path: Path, other: Path) -> bool:
    return path.name == other.name and path.resolve() == other.resolve()


def _files(place: Path, under: str, listed: Path | None) -> dict[str, Path]:
    """Every file of images or masks below, by its name there, as `folder.named` has it; what else there is, but for the
    listing, is said."""
    require_folder_of_files(place)
    files = (name for name in folder.files(place) if not (listed and _same(place / name, listed)))
    found = sorted(name for name in files if (place / name).is_file() or not (place / name).exists())
    named = folder.named(place, [name for name in found if not leftover(name)], under)
    kept = {file: name for file, name in named.items() if folder.role(f"{under}/{name}")}
    say_left_out("evaluate", place, [name for name in found if name not in named], LEFT_BEHIND)
    say_left_out("evaluate", place, [name for name in named if name not in kept], "no image or mask")
    return {name: place / file for file, name in kept.items()}
