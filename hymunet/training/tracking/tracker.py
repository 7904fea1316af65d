"""What a training says about itself, to nobody in particular."""

from pathlib import Path
from types import TracebackType
from typing import Self


class Tracker:
    """Says nothing: for ranks beyond the first, and with HYMUNET_TRACKING=off."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass

    def metrics(self, step: int, values: dict[str, float]) -> None:
        pass

    def reports(self, folder: Path) -> None:
        """The reports in this folder are new."""

    def finish(self, status: str) -> None:
        """`FINISHED`, `KILLED` (to be resumed) or `FAILED`."""

    def sync(self) -> None:
        """What has been said is on the disk."""
