"""On a GPU: the same bytes twice, after a stop as well; nothing in a step waits for the device."""

import os
import signal
from pathlib import Path

import pytest
import torch

from hymunet.data.feed.dataset import TrainingData
from hymunet.training import device as devices
from hymunet.training import learner, trainer
from hymunet.training.distributed import Ranks
from tests.integration.training.torchrun import assert_same_training, history, run, start
from tests.support.training_data import drawn, sections, write_inputs

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU on this machine"),
]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return write_inputs(tmp_path_factory.mktemp("inputs") / "inputs", *drawn(60, 64), validation=8, test=4)


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in (folder / "model").rglob("*") if p.is_file()} | {
        "history": (folder / "reports" / "history.json").read_bytes()
    }


def train(inputs, folder: Path, stop_at: int | None = None, **changes) -> int:
    learn = learner.Learner.learn

    def interrupted(self, batch):
        if self.progress.step + 1 == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        learn(self, batch)

    checkpoints = str(folder / "checkpoints")
    paths = trainer.Paths(inputs.prepared, inputs.split, folder / "model", folder / "reports", checkpoints)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learner.Learner, "learn", interrupted)
        patch.setenv("HYMUNET_TRACKING", "off")
        return trainer.train(*sections(augment="device", batch_size=8, example_every=0, **changes), paths)


@pytest.mark.parametrize("name", ["hymunet", "unet"])
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_twice_and_after_stops_the_same_bytes(inputs, tmp_path, name, precision):
    changes = {"name": name, "precision": precision, "epochs": 3}
    assert train(inputs, tmp_path / "a", **changes) == 0
    assert train(inputs, tmp_path / "b", **changes) == 0
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    for stop in (4, 6, 11):
        assert train(inputs, tmp_path / "c", stop, **changes) == 75
    assert train(inputs, tmp_path / "c", **changes) == 0
    assert contents(tmp_path / "a") == contents(tmp_path / "c")


def test_a_step_waits_for_nothing(inputs):
    devices.make_deterministic()
    model, section = sections(augment="device", batch_size=8)
    one = learner.Learner(model, section, TrainingData(inputs.prepared, inputs.split), Ranks())
    batches = one.batches()
    for _ in range(3):
        one.learn(next(batches))
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            one.learn(next(batches))
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.slow
def test_compiled_it_trains_the_same_within_rounding(inputs, tmp_path):
    """Without stochastic depth: compiled code draws it from a generator of its own."""
    for compiled in (False, True):
        changes = {"compile": compiled, "precision": "float32", "drop_path": 0.0}
        assert train(inputs, tmp_path / str(compiled), **changes) == 0
    plain, compiled_history = (history(tmp_path / str(value)) for value in (False, True))
    for ours, theirs in zip(compiled_history, plain, strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-2)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two GPUs")
def test_two_gpus_train_what_one_trains_and_twice_the_same(inputs, tmp_path):
    """By NCCL. cuDNN picks its algorithms by the size of a rank's part, so that sums differ more than on a CPU."""
    changes = {"gpu": True, "augment": "device", "precision": "float32", "epochs": 3}
    for name, ranks in (("one", 1), ("two", 2), ("two again", 2)):
        run(tmp_path / name, inputs, ranks, **changes)
    assert_same_training(tmp_path / "two", tmp_path / "one", loss_tolerance=1e-2, dice_tolerance=2e-2)
    assert contents(tmp_path / "two") == contents(tmp_path / "two again")


def test_more_processes_than_gpus_are_one_line(inputs, tmp_path):
    process = start(tmp_path, inputs, torch.cuda.device_count() + 1, gpu=True)
    _, error = process.communicate(timeout=200)
    assert process.returncode == 1
    assert "start as many processes as there are GPUs" in error
