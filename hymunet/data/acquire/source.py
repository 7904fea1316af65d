"""What a source is: its archives with their published hashes, and the rule that finds pairs in them."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class ArchiveFile:
    """An archive as its publisher has it; without a hash it is one that we make ourselves."""

    name: str
    bytes: int | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Pair:
    """Where an image and its mask lie: (archive name, member name) each; None where there is none."""

    id: str
    image: tuple[str, str] | None
    mask: tuple[str, str] | None


@dataclass(frozen=True)
class Source:
    """`image` and `mask` match whole member names, of every split; members that match neither are ignored."""

    archives: tuple[ArchiveFile, ...]
    image: str
    mask: str
    hosts: tuple[str, ...] = ()
    mask_threshold: int | None = 127  # foreground is above it; None: see decode.decode_pair
    official: Mapping[str, tuple[ArchiveFile, ...]] = field(default_factory=dict)  # its further splits, by name
    members: Callable[[Any], Iterator[tuple[str, bytes]]] | None = None  # of an archive of our own: section -> content

    @property
    def extra(self) -> tuple[ArchiveFile, ...]:
        """The archives of the further splits."""
        return tuple(archive for archives in self.official.values() for archive in archives)

    def official_split(self, archive: str) -> str:
        """Which of the publisher's splits an archive holds: those of `official`, or `train`."""
        return next(
            (name for name, files in self.official.items() if archive in {file.name for file in files}), "train"
        )

    def pairs(self, members: Mapping[str, list[str]]) -> list[Pair]:
        """members: archive name -> member names. Pairs sorted by id; a half without its other has None there."""
        images = self._matches(self.image, members)
        masks = self._matches(self.mask, members)
        return [Pair(id, images.get(id), masks.get(id)) for id in sorted(images | masks)]

    def _matches(self, pattern: str, members: Mapping[str, list[str]]) -> dict[str, tuple[str, str]]:
        found: dict[str, tuple[str, str]] = {}
        for archive, names in members.items():
            for name in names:
                match = re.fullmatch(pattern, name)
                if not match:
                    continue
                if match[1] in found:
                    raise ValueError(f"{archive}: {name} and {found[match[1]][1]} are both named {match[1]}")
                found[match[1]] = (archive, name)
        return found
