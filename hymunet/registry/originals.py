"""Test images as their files are, by the split of a version that was tested on them, at whatever size a model sees."""

import hashlib
import json
import threading
from collections.abc import Mapping
from pathlib import Path

import cv2

from hymunet.data.acquire.archives import Archive
from hymunet.data.acquire.pairs import Pair
from hymunet.data.acquire.sources import SOURCES
from hymunet.data.prepare.decode import decode_under
from hymunet.data.prepare.manifest import facts
from hymunet.data.prepare.masks import read_mask
from hymunet.data.prepare.prepare import find_pairs, masks_drawn_on
from hymunet.evaluation.cases import Case, GroupedBy
from hymunet.images import resize
from hymunet.registry.evidence import Image


class Originals:
    """Cases from the archives that the download step wrote, read one at a time and as the prepare step reads them.

    A lesion that is lost on the grid of `size` stays a case: the challenger's grid kept it, and the gates compare at
    the images' own size.

    wanted: of each id the group and the file's hash; a file with another hash is a case that cannot be used. masks_on:
    `shown` or `stored`, where EXIF turns an image; None: the set tells. grouped_by: what named the groups.
    """

    def __init__(
        self, raw: Path, wanted: Mapping[str, Image], size: int, masks_on: str | None, grouped_by: GroupedBy
    ) -> None:
        record = _source(raw)
        self.source, archives = record["source"], record["archives"] + record.get("extra", [])
        self._raw, self._wanted, self._size = raw, wanted, size
        pairs = find_pairs(self.source, [raw / archive["name"] for archive in archives])
        self._pairs = {pair.id: pair for pair in pairs if pair.id in wanted}
        if absent := sorted(wanted.keys() - self._pairs.keys()):
            raise ValueError(
                f"{raw}: {len(absent)} of {len(wanted)} test images are not there, as {', '.join(absent[:3])}; name "
                "the folder that the download step wrote for the challenger's data"
            )
        self._masks_on = masks_on or masks_drawn_on(raw, SOURCES[self.source], pairs, "rescore")
        self.ids = sorted(wanted)
        self.groups, self.grouped_by = [wanted[id].group for id in self.ids], grouped_by
        self._own = threading.local()

    def __getitem__(self, position: int) -> Case:
        id = self.ids[position]
        image, mask = self._read(self._pairs[id])
        if hashlib.sha256(image).hexdigest() != self._wanted[id].sha256:
            raise ValueError(f"{self._raw}: {id} is another file than the one that the challenger was tested on")
        native = read_mask(mask, SOURCES[self.source].mask_threshold)
        pixels = decode_under(image, mask, native, self._size, self._masks_on)
        truth = cv2.resize(native, (self._size, self._size), interpolation=cv2.INTER_NEAREST_EXACT)
        return Case(id, resize(pixels, self._size), truth, native, {"id": id, **facts(image, mask, pixels, native)})

    def _read(self, pair: Pair) -> tuple[bytes, bytes]:
        if pair.problem or pair.image is None or pair.mask is None:
            raise ValueError(pair.problem)
        (archive, image), (other, mask) = pair.image, pair.mask
        return self._archive(archive).read(image), self._archive(other).read(mask)

    def _archive(self, name: str) -> Archive:
        """This thread's own handle: reading moves it."""
        if not hasattr(self._own, name):
            setattr(self._own, name, Archive(self._raw / name))
        return getattr(self._own, name)


def _source(raw: Path) -> dict:  # type: ignore[type-arg]
    try:
        return dict(json.loads((raw / "source.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        raise ValueError(
            f"{raw / 'source.json'}: missing or unreadable; name the folder that the download step wrote"
        ) from None
