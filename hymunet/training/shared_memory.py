"""Loader processes hand batches over in /dev/shm, of which a container has 64 MB unless it is given more.

What is needed is known before the first epoch; less than that means fewer batches ahead, or fewer processes, which is
said. What happens to a loader process all the same is told as what it is.
"""

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PLACE = Path("/dev/shm")
AHEAD = 4  # batches that each process keeps ready, where there is room
IN_HAND = 2  # batches besides: one being made or copied to the device, one being used
REMEDY = (
    "give the container more (docker run --shm-size=1g; in Kubernetes an emptyDir of medium Memory at /dev/shm), or "
    "lower train.workers"
)
_FULL = re.compile(r"Bus error|No space left on device|unable to (allocate|write|resize|mmap)")


class LoaderDied(OSError):
    """A loader process ended for a reason outside the program: worth another try where there is more room."""


@dataclass(frozen=True)
class Plan:
    """So many processes, each with so many batches ahead. `change`: in words, where it is less than was asked for."""

    workers: int
    ahead: int
    change: str = ""


def plan(
    workers: int,
    batch_bytes: int,
    processors: int,
    place: Path = PLACE,
    environment: Mapping[str, str] = os.environ,
) -> Plan:
    """What fits, for every rank of this machine alike; without loader processes the training makes its batches itself.

    batch_bytes: of one rank's part of a batch. processors: of this machine; more processes than that only wait for each
    other. Neither number changes what a training computes.
    """
    ranks = int(environment.get("LOCAL_WORLD_SIZE", "1"))
    workers = min(workers, max(1, processors // ranks))
    if not workers or not place.is_dir():
        return Plan(workers, AHEAD)
    free = shutil.disk_usage(place).free
    room = free // (ranks * batch_bytes) - IN_HAND  # batches of one rank
    if room >= workers * AHEAD:
        return Plan(workers, AHEAD)
    fewer = max(0, min(workers, room))
    ahead = max(1, min(AHEAD, room // max(1, fewer)))
    need = ranks * batch_bytes * (workers * AHEAD + IN_HAND)
    instead = f"{fewer} with {ahead} ahead each" if fewer else "the training process makes its batches itself"
    change = (
        f"{place} has {free / 2**20:.0f} MiB free, and {workers} loader processes with {AHEAD} batches ahead each need "
        f"{need / 2**20:.0f} MiB; {instead}. To have them all: {REMEDY}"
    )
    return Plan(fewer, ahead, change)


def explained(error: BaseException, place: Path = PLACE) -> LoaderDied | None:
    """What torch says of a loader process that died, for people; None for any other error."""
    said = str(error)
    if "DataLoader worker" not in said:
        return None
    if _FULL.search(said):
        return LoaderDied(f"a loader process found no room in {place}, which something else has filled; {REMEDY}")
    if "signal: Killed" in said:
        return LoaderDied("a loader process was killed, as the system does when memory is short; lower train.workers")
    if "exited unexpectedly" in said:
        return LoaderDied(f"a loader process ended ({' '.join(said.split())[:200]}); train.workers=0 does without")
    return None
