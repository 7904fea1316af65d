"""Batches are a function of the step: any start, any number of workers, any number of ranks."""

import multiprocessing
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hymunet.data.feed.augment import Recipe
from hymunet.data.feed.dataset import TrainingData
from hymunet.training import patience
from hymunet.training.loading import DeviceLoader, Schedule, Share, WorkerLoader
from hymunet.training.shared_memory import LoaderDied

CPU = torch.device("cpu")
RECIPE = Recipe(rotation_degrees=15.0)
WHOLE = Share(0, 1)


@settings(max_examples=50)
@given(st.integers(1, 60), st.integers(1, 20), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_an_epoch_shows_images_once_and_only_a_full_batch_counts(images, batch_size, epochs, seed):
    if batch_size > images:
        with pytest.raises(ValueError, match=f"batch_size {batch_size} exceeds the {images} training images"):
            Schedule(images, batch_size, epochs, seed)
        return
    schedule = Schedule(images, batch_size, epochs, seed)
    batches = list(schedule.batches(0))
    assert len(batches) == schedule.steps == epochs * (images // batch_size)
    for epoch in range(epochs):
        shown = np.concatenate([positions for number, positions in batches if number == epoch])
        assert len(set(shown)) == len(shown) == images - images % batch_size


@settings(max_examples=50)
@given(st.data())
def test_a_schedule_goes_on_from_any_step_and_ranks_share_it_out(data):
    count = data.draw(st.sampled_from([1, 2, 3, 4]))
    schedule = Schedule(data.draw(st.integers(12, 60)), 12, 3, 5)
    start = data.draw(st.integers(0, schedule.steps))
    whole, rest = list(schedule.batches(0)), list(schedule.batches(start))
    assert len(rest) == len(whole) - start
    for (epoch, positions), (epoch_there, positions_there) in zip(whole[start:], rest, strict=True):
        assert epoch == epoch_there
        assert (positions == positions_there).all()
        parts = [Share(rank, count).of(positions) for rank in range(count)]
        assert (np.concatenate(parts) == positions).all()
        assert len({len(part) for part in parts}) == 1


def collect(loader, schedule, first_step=0, share=WHOLE):
    return [loader.expand(batch) for batch in loader.batches(schedule, first_step, share)]


def assert_same(batches, others):
    for batch, other in zip(batches, others, strict=True):
        assert torch.equal(batch[0], other[0])
        assert torch.equal(batch[1], other[1])


@pytest.fixture
def subset(inputs):
    return TrainingData(inputs.prepared, inputs.split).subset("train")


def test_workers_do_not_change_a_batch(subset):
    schedule = Schedule(len(subset), 6, 2, seed=1)
    alone = collect(WorkerLoader(subset, RECIPE, 0, CPU), schedule)
    assert alone[0][0].shape == (6, 3, 32, 32)
    assert alone[0][0].is_contiguous(memory_format=torch.channels_last)
    assert_same(alone, collect(WorkerLoader(subset, RECIPE, 3, CPU), schedule))
    assert_same(alone[4:], collect(WorkerLoader(subset, RECIPE, 2, CPU), schedule, first_step=4))


@pytest.mark.parametrize("kind", [WorkerLoader, DeviceLoader])
def test_ranks_see_the_parts_of_a_batch(subset, kind):
    loader = WorkerLoader(subset, RECIPE, 0, CPU) if kind is WorkerLoader else DeviceLoader(subset, RECIPE, CPU)
    schedule = Schedule(len(subset), 6, 1, seed=1)
    whole = collect(loader, schedule)
    parts = [collect(loader, schedule, share=Share(rank, 2)) for rank in range(2)]
    joined = [tuple(torch.cat(pair) for pair in zip(*both, strict=True)) for both in zip(*parts, strict=True)]
    assert_same(whole, joined)


def test_the_same_image_is_drawn_anew_in_every_epoch(subset):
    schedule = Schedule(len(subset), len(subset), 2, seed=1)
    first, second = (
        images[np.argsort(positions)]
        for (images, _), (_, positions) in zip(
            collect(DeviceLoader(subset, RECIPE, CPU), schedule), schedule.batches(0), strict=True
        )
    )
    assert (first != second).flatten(1).any(1).all()


def test_loading_leaves_the_global_generator_alone(subset):
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    collect(WorkerLoader(subset, RECIPE, 1, CPU), Schedule(len(subset), 10, 1, seed=1))
    assert torch.equal(torch.rand(4), expected)


class Stuck:
    """A subset whose disk does not answer any more after some images."""

    def __init__(self, subset, images):
        self.subset, self.images = subset, images

    def __len__(self):
        return len(self.subset)

    def __getitem__(self, position):
        if position not in self.images:
            time.sleep(3600)
        return self.subset[position]


@pytest.mark.parametrize("told", [True, False], ids=["told to stop", "never told"])
def test_a_loader_that_gets_no_batch_hears_that_it_should_stop_and_waits_no_longer_than_it_may(
    subset, monkeypatch, told
):
    """What was made before is delivered; the processes that hang do not outlive it."""
    schedule = Schedule(len(subset), 4, 3, 0)
    first = set(next(schedule.batches(0))[1].tolist())
    loader = WorkerLoader(Stuck(subset, first), RECIPE, 1, CPU)
    before, begin = set(multiprocessing.active_children()), time.monotonic()
    batches = loader.batches(schedule, 0, WHOLE)
    assert next(batches)["images"].shape[0] == 4
    monkeypatch.setattr(patience, "GRACE", 0.2)
    monkeypatch.setattr(patience, "PATIENCE", 1.0)
    if told:
        loader.stopping = lambda: True
        assert list(batches) == []
    else:
        with pytest.raises(LoaderDied, match=r"no batch came from the loader processes for 1 s; is the disk"):
            next(batches)
    assert time.monotonic() - begin < 10
    time.sleep(0.2)
    assert set(multiprocessing.active_children()) == before
