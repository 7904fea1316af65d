"""On a GPU: the same bytes twice, after a stop as well; nothing in a step waits for the device."""

import os
import signal
from pathlib import Path

import pytest
import torch

from hymunet.data.dataset import TrainingData
from hymunet.training import device as devices
from hymunet.training import learner, trainer
from hymunet.training.distributed import Ranks
from tests.training_data import drawn, sections, write_inputs

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

    def interrupted(self, images, masks):
        if self.progress.step + 1 == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        learn(self, images, masks)

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
        one.learn(*next(batches))
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            one.learn(*next(batches))
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.slow
def test_compiled_it_trains_the_same_within_rounding(inputs, tmp_path):
    for compiled in (False, True):
        assert train(inputs, tmp_path / str(compiled), compile=compiled, precision="float32") == 0
    import json

    plain, compiled_history = (
        json.loads((tmp_path / str(value) / "reports" / "history.json").read_text()) for value in (False, True)
    )
    for ours, theirs in zip(compiled_history, plain, strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-2)
