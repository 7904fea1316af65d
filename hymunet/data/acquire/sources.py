"""Where images come from: each source's archives with their official hashes, and the rule that finds pairs in them.

To add a source, add an entry to SOURCES: its hosts, its archives, and two patterns whose first group is the image's id.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field


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


ISIC = "ISIC2018_Task1"
_IMAGE_TYPES = "jpg|jpeg|png|bmp|tif|tiff|webp"

SOURCES: dict[str, Source] = {
    "isic2018": Source(
        archives=(
            ArchiveFile(
                f"{ISIC}-2_Training_Input.zip",
                11_165_358_566,
                "80f98572347a2d7a376227fa9eb2e4f7459d317cb619865b8b9910c81446675f",
            ),
            ArchiveFile(
                f"{ISIC}_Training_GroundTruth.zip",
                27_402_895,
                "99f8b2bb3c4d6af483362010715f7e7d5d122d9f6c02cac0e0d15bef77c7604c",
            ),
        ),
        image=rf"{ISIC}-2_(?:Training|Validation|Test)_Input/(ISIC_\d{{7}})\.jpg",
        mask=rf"{ISIC}_(?:Training|Validation|Test)_GroundTruth/(ISIC_\d{{7}})_segmentation\.png",
        hosts=(
            "https://isic-archive.s3.amazonaws.com/challenges/2018",
            "https://isic-challenge-data.s3.amazonaws.com/2018",
        ),
        mask_threshold=128,
        official={
            "validation": (
                ArchiveFile(
                    f"{ISIC}-2_Validation_Input.zip",
                    239_231_159,
                    "0ea920fcfe512d12a6e620b50b50233c059f67b10146e1479c82be58ff15a797",
                ),
                ArchiveFile(
                    f"{ISIC}_Validation_GroundTruth.zip",
                    759_706,
                    "f6911e9c0a64e6d687dd3ca466ca927dd5e82145cb2163b7a1e5b37d7a716285",
                ),
            ),
            "test": (
                ArchiveFile(
                    f"{ISIC}-2_Test_Input.zip",
                    2_370_457_338,
                    "e59ae1f69f4ed16f09db2cb1d76c2a828487b63d28f6ab85997f5616869b127d",
                ),
                ArchiveFile(
                    f"{ISIC}_Test_GroundTruth.zip",
                    9_680_101,
                    "2e8f6edce454a5bdee52485e39f92bd6eddf357e81f39018d05512175238ef82",
                ),
            ),
        },
    ),
    "kvasir_seg": Source(
        archives=(
            ArchiveFile(
                "kvasir-seg.zip", 46_227_172, "03b30e21d584e04facf49397a2576738fd626815771afbbf788f74a7153478f7"
            ),
        ),
        image=r"Kvasir-SEG/images/([^/]+)\.jpg",
        mask=r"Kvasir-SEG/masks/([^/]+)\.jpg",
        hosts=("https://datasets.simula.no/downloads",),
    ),
    "synthetic": Source(
        archives=(ArchiveFile("synthetic.zip"),),
        image=r"synthetic/images/(\w+)\.png",
        mask=r"synthetic/masks/(\w+)\.png",
    ),
    "folder": Source(
        archives=(ArchiveFile("folder.zip"),),
        image=rf"folder/images/(.+)\.(?i:{_IMAGE_TYPES})",
        mask=rf"folder/masks/(.+?)(?:_segmentation|_mask)?\.(?i:{_IMAGE_TYPES})",
        mask_threshold=None,
    ),
}
