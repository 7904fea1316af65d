"""The masks at their own size, for scores as others compute them: `native_masks.zip`, one PNG of one bit a pixel each.

Read as they were prepared: binarised by the source's rule, turned as the image is.
"""

import zipfile
from pathlib import Path
from typing import Self

import cv2
import numpy as np

from hymunet.formats.zips import reading
from hymunet.images import decode

NATIVE_MASKS = "native_masks.zip"
_PNG = [cv2.IMWRITE_PNG_BILEVEL, 1, cv2.IMWRITE_PNG_COMPRESSION, 1]


def encoded(mask: np.ndarray) -> bytes:
    """uint8 (H, W) of 0 and 1 -> a PNG of one bit a pixel."""
    return cv2.imencode(".png", 255 * mask, _PNG)[1].tobytes()


class NativeMasks:
    """Writes the archive; bytes depend on names, masks and their order alone. Use as a context manager."""

    def __init__(self, path: Path) -> None:
        self._zip = zipfile.ZipFile(path, "w", zipfile.ZIP_STORED)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._zip.close()

    def add(self, id: str, mask: bytes) -> None:
        self._zip.writestr(zipfile.ZipInfo(f"{id}.png"), mask)


class NativeReader:
    """Masks by id from a prepared folder, one at a time, from any thread. ValueError where there is no archive."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / NATIVE_MASKS
        with reading(self.path, self._problem):
            self._zip = zipfile.ZipFile(self.path)

    def read(self, id: str) -> np.ndarray:
        """uint8 (H, W) of 0 and 1. ValueError where the mask is missing or damaged."""
        try:
            with reading(self.path, self._problem):
                content = self._zip.read(f"{id}.png")
        except KeyError as error:
            raise self._problem(error) from None
        return (decode(content, cv2.IMREAD_GRAYSCALE, f"{self.path}: {id}") > 0).astype(np.uint8)

    def _problem(self, error: Exception) -> ValueError:
        return ValueError(f"{self.path}: cannot be read ({' '.join(str(error).split())}); run the prepare step again")
