"""Checkpoints of other settings beside a training that begins: nobody should think that it goes on from them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hymunet.training.checkpoint import newest_manifest
from hymunet.training.identity import differences, run_key

NAMED = 4  # values that differ, in one line


@dataclass(frozen=True)
class Other:
    """A run's folder of checkpoints: epochs done of those wanted, and what is not as in ours."""

    folder: Path
    done: int
    wanted: int
    differs: list[str]


def left_alone(location: str, identity: dict[str, Any]) -> str | None:
    """What a training is told that begins though other runs' checkpoints are there: in one line the most similar one.

    None where there are none, and for a store, which holds everybody's.
    """
    found = [] if "://" in location else _others(Path(location), identity)
    if not found:
        return None
    other = min(found, key=lambda one: (len(one.differs), one.done >= one.wanted, one.folder))
    more = len(other.differs) - NAMED
    values = "; ".join(other.differs[:NAMED]) + (f"; and {more} more" if more > 0 else "")
    goes_on = "is finished" if other.done >= other.wanted else "goes on with its own settings"
    return (
        f"begins at step 0, not from {other.folder} (epoch {other.done} of {other.wanted}), which is of other settings "
        f"({values}); it stays there, and {goes_on}"
    )


def _others(folder: Path, identity: dict[str, Any]) -> list[Other]:
    found = []
    for run in sorted(path for path in folder.glob("*") if path.is_dir() and path.name != run_key(identity)):
        try:
            manifest = newest_manifest(run)
            if manifest is not None:
                theirs, done = manifest["configuration"], len(manifest["state"]["history"])
                found.append(Other(run, done, theirs["train"]["epochs"], differences(identity, theirs)))
        except (KeyError, TypeError):  # of another program, or a version of this one whose records are others
            continue
    return found
