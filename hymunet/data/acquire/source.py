"""What a source is: its archives with their published hashes, and the rule that finds pairs in them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from hymunet.data.acquire.pairs import Pair, Role, by_pattern, pair


@dataclass(frozen=True)
class ArchiveFile:
    """An archive as its publisher has it; without a hash it is one that we make ourselves."""

    name: str
    bytes: int | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Source:
    """`image` and `mask` match whole member names, of every split; members that match neither are ignored."""

    archives: tuple[ArchiveFile, ...]
    image: str = ""
    mask: str = ""
    hosts: tuple[str, ...] = ()
    mask_threshold: int = 127  # foreground is above it, where edges hold values between
    official: Mapping[str, tuple[ArchiveFile, ...]] = field(default_factory=dict)  # its further splits, by name
    role: Role | None = None  # in place of the two patterns
    members: Callable[[Any], Iterator[tuple[str, bytes]]] | None = None  # of an archive of our own: section -> content
    home: str = ""  # of an archive of our own: what its members' names begin with and people's own do not
    listing: str = ""  # the member that says what belongs together, where it is there (`acquire.listing`)

    @property
    def extra(self) -> tuple[ArchiveFile, ...]:
        """The archives of the further splits."""
        return tuple(archive for archives in self.official.values() for archive in archives)

    def official_split(self, archive: str) -> str:
        """Which of the publisher's splits an archive holds: those of `official`, or `train`."""
        return next(
            (name for name, files in self.official.items() if archive in {file.name for file in files}), "train"
        )

    def shown(self, member: str) -> str:
        """A member's name as people know it."""
        return member.removeprefix(self.home)

    def pairs(self, members: Mapping[str, list[str]]) -> list[Pair]:
        """members: archive name -> member names. Pairs sorted by id, those with a problem among them."""
        return pair(members, self.role or by_pattern(self.image, self.mask), self.shown)
