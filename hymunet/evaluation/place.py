"""Where the images of an evaluation are, and whether they are there."""

from dataclasses import dataclass
from pathlib import Path

from hymunet.data.feed.dataset import require_prepared
from hymunet.data.splits import Scored
from hymunet.evaluation.folders import require_folder_of_files


@dataclass(frozen=True)
class Place:
    """Where the images are: `images` and `masks`, or `folder` with both in it, or `prepared` with or without a `split`,
    of which a part counts: test where none is named. groups: a `groups.csv` of `images`."""

    images: Path | None = None
    masks: Path | None = None
    folder: Path | None = None
    prepared: Path | None = None
    split: Path | None = None
    masks_on: str | None = None
    part: Scored | None = None
    groups: Path | None = None

    def __post_init__(self) -> None:
        ways = [self.images or self.masks, self.folder, self.prepared]
        if sum(way is not None for way in ways) != 1 or bool(self.images) != bool(self.masks):
            raise ValueError("name the images in one way: --images and --masks, or --folder, or --prepared")
        if self.groups and not self.images:
            own = "a folder's own groups.csv is read as it is"
            made = "a prepared set keeps the groups of the folder that it was made from"
            raise ValueError(f"--groups belongs to --images and --masks; {own if self.folder else made}")
        if self.split and not self.prepared:
            raise ValueError("--split belongs to --prepared")
        if self.part and not self.split:
            raise ValueError(f"--part {self.part} is of a split: name it by --split")

    def require_there(self) -> None:
        """Raises ValueError for what is not there, or is no set of images: told before a model is opened."""
        for folder in (self.images, self.masks, self.folder):
            if folder is not None:
                require_folder_of_files(folder)
        if self.groups is not None and not self.groups.is_file():
            raise ValueError(f"{self.groups}: no such file; name a table with the columns image and group")
        if self.prepared is not None:
            require_prepared(self.prepared, self.split)

    @property
    def called(self) -> str:
        return "validation images" if self.part == "validation" else "images"
