"""The section `data` of params.yaml: which source, and a section of its own for each.

A step depends on the chosen source's section alone.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from hymunet.section import Section, Seed


class Published(Section):
    """Archives that somebody publishes. `sums`: the hash of the SHA256SUMS of a mirror that has others than those."""

    mirror: str | None
    sums: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None

    @model_validator(mode="after")
    def _sums_are_a_mirror_s(self) -> Self:
        if self.sums and not self.mirror:
            raise ValueError("sums names the archives of a mirror, and mirror is null: name one, or set sums to null")
        return self


class Isic2018(Published):
    official_test: bool


class Folder(Section):
    path: Annotated[str, Field(min_length=1)]


class Synthetic(Section):
    images: Annotated[int, Field(ge=10, le=100_000)]
    size: Annotated[int, Field(ge=32, le=4096)]
    seed: Seed


class Data(Section):
    source: Literal["isic2018", "kvasir_seg", "folder", "synthetic"]
    isic2018: Isic2018
    kvasir_seg: Published
    folder: Folder
    synthetic: Synthetic

    @property
    def own_folder(self) -> Path | None:
        """The user's own folder, where images come from one."""
        return Path(self.folder.path) if self.source == "folder" else None

    @property
    def chosen(self) -> Published | Folder | Synthetic:
        return getattr(self, self.source)
