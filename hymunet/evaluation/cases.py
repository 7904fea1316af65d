"""Images with their truth, as evaluation takes them."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from hymunet.data.feed.dataset import Prepared
from hymunet.data.prepare.native import NATIVE_MASKS, NativeReader
from hymunet.evaluation import familiar

GroupedBy = Literal["near-duplicates", "groups.csv", "near-duplicates and groups.csv"]


@dataclass(frozen=True)
class Case:
    """image uint8 RGB (S, S, 3) and truth (S, S) of 0 and 1 on the model's grid; native: the truth at its own size.

    facts: a row of the manifest.
    """

    id: str
    image: np.ndarray
    truth: np.ndarray
    native: np.ndarray | None
    facts: dict[str, Any]


class Cases(Protocol):
    """ids: of all cases, in order; groups: those that are drawn together, None where nobody knows any; grouped_by: what
    says so."""

    @property
    def ids(self) -> Sequence[str]: ...

    @property
    def groups(self) -> Sequence[str] | None: ...

    @property
    def grouped_by(self) -> GroupedBy | None: ...

    @property
    def source(self) -> str: ...

    def __getitem__(self, position: int) -> Case:
        """Called from several threads at once. ValueError for a case that cannot be used."""
        ...


def require_several(groups: Sequence[str], said_by: object) -> None:
    """ValueError where all of several images are of one group: any interval over groups would be empty."""
    if len(set(groups)) == 1 < len(groups):
        raise ValueError(
            f"{said_by}: all images are of one group, which tells nothing of others; take images of more groups, or "
            "give each image a group of its own"
        )


class PreparedCases:
    """Rows of prepared arrays. Without native masks there (an older preparation) `native` is None."""

    def __init__(
        self,
        prepared: Prepared,
        rows: Sequence[int] | np.ndarray,
        manifest: Sequence[dict[str, Any]],
        groups: Sequence[str] | None,
        grouped_by: GroupedBy | None,
    ) -> None:
        self._prepared, self._rows, self._manifest = prepared, rows, manifest
        self.ids = [manifest[row]["id"] for row in rows]
        self.groups = None if groups is None else [groups[row] for row in rows]
        self.grouped_by = grouped_by
        self.source = prepared.description().get("source", "unknown")
        self._native = NativeReader(prepared.folder) if (prepared.folder / NATIVE_MASKS).is_file() else None

    def __getitem__(self, position: int) -> Case:
        row = self._rows[position]
        image, truth = np.array(self._prepared.images[row]), np.array(self._prepared.masks[row])
        native = self._native.read(self.ids[position]) if self._native else None
        return Case(self.ids[position], image, truth, native, dict(self._manifest[row]))

    def familiar(self) -> dict[str, Any] | None:
        """As `familiar.ends` gives it, of these cases."""
        return familiar.ends((self._prepared.images[row], self._manifest[row]["mask_area"]) for row in self._rows)


def hash_of_images(facts: Sequence[dict[str, Any]]) -> str:
    """SHA-256 over ids and the files behind them, image and mask, whatever size they are scored at.

    Two models are compared on equal terms when this agrees.
    """
    rows = sorted((row["id"], row["sha256_image"], row["sha256_mask"]) for row in facts)
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()
