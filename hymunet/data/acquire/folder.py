"""A folder of one's own: `images/` and `masks/` with matching names, packed into one archive."""

from collections.abc import Iterator
from pathlib import Path

from hymunet.data.acquire.sections import Folder
from hymunet.data.acquire.source import ArchiveFile, Source

_IMAGE_TYPES = "jpg|jpeg|png|bmp|tif|tiff|webp"


def members(section: Folder) -> Iterator[tuple[str, bytes]]:
    """Names and content for the archive. ValueError when the folder is not one of images and masks."""
    folder = Path(section.path)
    for kind in ("images", "masks"):
        if not (folder / kind).is_dir():
            raise ValueError(
                f"data.folder.path {folder}: has no {kind}/; expected images/ and masks/ with matching names"
            )
    paths = sorted(path for kind in ("images", "masks") for path in (folder / kind).rglob("*") if path.is_file())
    for path in paths:
        yield f"folder/{path.relative_to(folder).as_posix()}", path.read_bytes()


SOURCE = Source(
    archives=(ArchiveFile("folder.zip"),),
    image=rf"folder/images/(.+)\.(?i:{_IMAGE_TYPES})",
    mask=rf"folder/masks/(.+?)(?:_segmentation|_mask)?\.(?i:{_IMAGE_TYPES})",
    mask_threshold=None,
    members=members,
)
