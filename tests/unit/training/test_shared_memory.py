"""What fits into /dev/shm, and what is said of loader processes that died."""

from collections import namedtuple

import pytest

from hymunet.training import shared_memory
from hymunet.training.shared_memory import AHEAD, LoaderDied, explained, plan

MIB = 2**20
Usage = namedtuple("Usage", ["free"])
BATCH = 24 * 256 * 256 * 4  # the paper profile's: 6 MiB
PLANS = {  # processes asked for, bytes of a batch, MiB free, ranks here -> processes, ahead, what is said
    "room enough": (4, BATCH, 200, 1, 4, AHEAD, ""),
    "a container's default": (4, BATCH, 64, 1, 4, 2, "has 64 MiB free, and 4 loader processes with 4 batches ahead"),
    "shared by two ranks": (4, BATCH // 2, 64, 2, 4, 2, "each need 108 MiB; 4 with 2 ahead each"),
    "too little for all": (16, BATCH, 64, 1, 8, 1, "8 with 1 ahead each. To have them all: give the container more"),
    "too little for any": (4, 4 * BATCH, 64, 1, 0, 1, "the training process makes its batches itself"),
    "full": (4, BATCH, 0, 1, 0, 1, "has 0 MiB free"),
    "none asked for": (0, BATCH, 0, 1, 0, AHEAD, ""),
}


@pytest.mark.parametrize("case", PLANS)
def test_no_more_is_planned_than_fits(case, tmp_path, monkeypatch):
    workers, size, free, ranks, fewer, ahead, words = PLANS[case]
    monkeypatch.setattr(shared_memory.shutil, "disk_usage", lambda place: Usage(free * MIB))
    found = plan(workers, size, 32, tmp_path, {"LOCAL_WORLD_SIZE": str(ranks)})
    assert (found.workers, found.ahead) == (fewer, ahead)
    assert words in found.change
    assert bool(words) == bool(found.change)
    if found.change:
        assert "--shm-size" in found.change
        assert "train.workers" in found.change
    assert not fewer or ranks * size * (fewer * ahead + shared_memory.IN_HAND) <= free * MIB


def test_where_there_is_no_such_place_nothing_is_said(tmp_path):
    assert plan(4, BATCH, 8, tmp_path / "none") == shared_memory.Plan(4, AHEAD)


@pytest.mark.parametrize(
    ("asked", "processors", "ranks", "workers"), [(4, 2, 1, 2), (4, 8, 4, 2), (4, 1, 2, 1), (0, 8, 1, 0)]
)
def test_no_more_processes_than_processors(asked, processors, ranks, workers, tmp_path):
    found = plan(asked, 1, processors, tmp_path, {"LOCAL_WORLD_SIZE": str(ranks)})
    assert (found.workers, found.change) == (workers, "")


SAID = {  # by torch -> in words
    "DataLoader worker (pid 5) is killed by signal: Bus error. It is possible that …": "found no room in /dev/shm",
    "Caught RuntimeError in DataLoader worker process 0.\nunable to allocate shared memory(shm) for file </torch_1>: "
    "No space left on device (28)": "--shm-size",
    "DataLoader worker (pid 5) is killed by signal: Killed.": "memory is short; lower train.workers",
    "DataLoader worker (pid(s) 5, 6) exited unexpectedly": "a loader process ended",
    "CUDA error: out of memory": None,
    "Caught ValueError in DataLoader worker process 0.\nOriginal Traceback: bad image": None,
}


@pytest.mark.parametrize("said", SAID)
def test_the_end_of_a_loader_process_is_told_as_what_it_is(said):
    found = explained(RuntimeError(said))
    if SAID[said] is None:
        assert found is None
    else:
        assert isinstance(found, LoaderDied)
        assert SAID[said] in str(found)
        assert "\n" not in str(found)
