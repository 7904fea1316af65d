"""On a GPU: the same bytes twice, after a stop as well; nothing in a step waits for the device."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from hymunet import params
from hymunet.data.feed import on_device
from hymunet.data.feed.augment import Recipe
from hymunet.data.feed.dataset import TrainingData
from hymunet.ops import mamba_ssm, selective_scan
from hymunet.training import device as devices
from hymunet.training import learner, trainer
from hymunet.training.capture import send
from hymunet.training.distributed import Ranks
from hymunet.training.loading import WorkerLoader
from tests.integration.training.torchrun import assert_same_training, history, run, start
from tests.support.training_data import ROOT, drawn, sections, write_inputs, written

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU on this machine"),
]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return write_inputs(tmp_path_factory.mktemp("inputs") / "inputs", *drawn(60, 64), validation=8, test=4)


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


def build(inputs, **changes) -> learner.Learner:
    devices.make_deterministic()
    data = TrainingData(inputs.prepared, inputs.split)
    return learner.Learner(*sections(augment="device", batch_size=8, **changes), data, Ranks())


def weights(one: learner.Learner) -> torch.Tensor:
    return torch.cat([tensor.detach().double().flatten() for tensor in one.model.state_dict().values()])


STRONG = params.read_yaml(ROOT / "profiles/strong.yaml")["train"]


@pytest.mark.parametrize("name", ["hymunet", "unet"])
@pytest.mark.parametrize(
    "changes",
    [
        {"precision": "float32", "compile": "off"},
        {"precision": "bf16", "compile": "off", "accumulate": 2},
        {"precision": "bf16", "compile": "required"},
        {"precision": "bf16", "compile": "required", "ema_decay": 0.9, **STRONG, "warmup_epochs": 0.5},
    ],
    ids=["float32", "bf16 in two parts", "compiled", "compiled, strong recipe, averaged weights"],
)
def test_twice_and_after_stops_the_same_bytes(inputs, tmp_path, capsys, name, changes):
    drop_path = {"drop_path": 0.3} if name == "hymunet" else {}
    changes = {"name": name, "epochs": 3, **drop_path, **changes}
    assert train(inputs, tmp_path / "a", **changes) == 0
    assert ("compiled and captured" if changes["compile"] == "required" else "step captured") in capsys.readouterr().out
    assert train(inputs, tmp_path / "b", **changes) == 0
    assert written(tmp_path / "a") == written(tmp_path / "b")
    for stop in (4, 6, 11):
        assert train(inputs, tmp_path / "c", stop, **changes) == 75
    assert train(inputs, tmp_path / "c", **changes) == 0
    assert written(tmp_path / "a") == written(tmp_path / "c")


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_graph_computes_what_the_step_does_by_itself(inputs, accumulate):
    """From the first step on, so that nothing of the warm-up is left in the state."""
    changes = {"accumulate": accumulate, "drop_path": 0.3, "compile": "off", "precision": "float32"}
    captured, plain = build(inputs, **changes), build(inputs, **changes)
    plain.run = lambda tensors: plain.step(send(tensors, plain.device))
    for one in (captured, plain):
        for batch, _ in zip(one.batches(), range(6), strict=False):
            one.learn(batch)
    assert captured.engine.captured
    assert torch.equal(captured.step.totals, plain.step.totals)
    assert torch.equal(weights(captured), weights(plain))
    dice = captured.finish_epoch()["validation_dice"]
    assert captured.validation.graph is not None
    assert dice == pytest.approx(plain.finish_epoch()["validation_dice"], abs=1e-6)
    assert captured.finish_epoch()["validation_dice"] == dice


def test_a_captured_step_that_is_not_finite_changes_nothing_but_the_counters(inputs):
    one = build(inputs, compile="off")
    batches = one.batches()
    one.learn(next(batches))
    before = weights(one)
    with torch.no_grad():
        parameter = next(one.model.parameters())
        kept = parameter.clone()
        parameter.fill_(float("inf"))
        one.learn(next(batches))
        parameter.copy_(kept)
    assert one.step.totals[1:].tolist() == [1.0, 1.0, 1.0]
    names = list(one.model.state_dict())
    sizes = [tensor.numel() for tensor in one.model.state_dict().values()]
    for name, a, b in zip(names, before.split(sizes), weights(one).split(sizes), strict=True):
        assert name.endswith("num_batches_tracked") or torch.equal(a, b), name


@pytest.mark.parametrize("compiled", [False, True])
def test_a_gpu_augments_as_a_cpu_does(compiled):
    images, masks = (torch.from_numpy(part) for part in drawn(24, 64))
    _, section = sections(**STRONG, epochs=10)
    recipe = Recipe.of(section)
    draws = on_device.tensors(recipe.draw(1, 2, np.arange(24), 64))
    largest = recipe.largest_blur(64)
    expected, labels = on_device.augment(images, masks, draws, largest)
    function = torch.compile(on_device.augment, dynamic=False) if compiled else on_device.augment
    there = send({"images": images, "masks": masks, **draws}, torch.device("cuda"))
    found, marks = function(there.pop("images"), there.pop("masks"), there, largest)
    assert (found.cpu() - expected).abs().max() < 0.02  # of a range of 2: a place that rounds to another pixel's border
    assert (found.cpu() - expected).abs().mean() < 1e-4
    assert (marks.cpu() != labels).float().mean() < 1e-3


@pytest.mark.parametrize("compile", ["off", "required"])
def test_a_step_waits_for_nothing(inputs, compile):
    one = build(inputs, compile=compile)
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


def test_what_cannot_be_captured_runs_step_by_step_and_says_so(inputs, caplog):
    one = build(inputs, compile="off")
    before, loss = weights(one), one.step.loss

    class Asking(torch.nn.Module):
        radius = loss.radius

        def forward(self, logits, masks, bands):
            value = loss(logits, masks, bands)
            return value if float(value) > 0 else value * 2

    one.step.loss = Asking()
    batches = one.batches()
    one.learn(next(batches))
    assert not one.engine.captured
    assert "cannot be captured as a CUDA graph" in caplog.text
    one.learn(next(batches))
    assert one.step.totals[1:].tolist() == [2.0, 0.0, 0.0]
    assert not torch.equal(before, weights(one))
    one.finish_epoch()


def test_a_compiler_that_fails_is_said_and_refused_where_it_is_required(inputs, caplog, monkeypatch):
    def broken(*_, **__):
        def raising(*_, **__):
            raise RuntimeError("no C compiler\nand much more")

        return raising

    monkeypatch.setattr(torch, "compile", broken)
    one = build(inputs, compile="auto")
    one.learn(next(one.batches()))
    assert one.engine.captured
    assert one.engine.name == "captured"
    assert "does not compile and runs without (RuntimeError: no C compiler)" in caplog.text
    refused = build(inputs, compile="required")
    with pytest.raises(ValueError, match="train.compile required: the step does not compile .*no C compiler"):
        refused.learn(next(refused.batches()))


def test_images_that_leave_no_room_are_augmented_by_workers(inputs, capsys, monkeypatch):
    monkeypatch.setattr(learner, "MEMORY_FOR_IMAGES", 0.0)
    one = build(inputs)
    assert isinstance(one.loader, WorkerLoader)
    assert "do not fit the GPU's" in capsys.readouterr().out


@pytest.mark.slow
def test_compiled_it_trains_the_same_within_rounding(inputs, tmp_path):
    for compiled in ("off", "required"):
        changes = {"compile": compiled, "precision": "float32", "drop_path": 0.3}
        assert train(inputs, tmp_path / compiled, **changes) == 0
    plain, compiled_history = (history(tmp_path / value) for value in ("off", "required"))
    for ours, theirs in zip(compiled_history, plain, strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-2)


@pytest.mark.skipif(mamba_ssm.unavailable("cuda") is not None, reason=str(mamba_ssm.unavailable("cuda")))
@pytest.mark.parametrize("compiled", ["off", "required"])
def test_with_the_scan_of_mamba_ssm_it_trains_as_with_our_own(inputs, tmp_path, monkeypatch, compiled):
    for scan in ("triton", "mamba_ssm"):
        monkeypatch.setitem(selective_scan.AUTO_ORDER, "cuda", (scan,))
        assert train(inputs, tmp_path / scan, compile=compiled, precision="bf16", epochs=3) == 0
    for ours, theirs in zip(history(tmp_path / "triton"), history(tmp_path / "mamba_ssm"), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=2e-2)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two GPUs")
def test_two_gpus_train_what_one_trains_and_twice_the_same(inputs, tmp_path):
    """By NCCL. cuDNN picks its algorithms by the size of a rank's part, so that sums differ more than on a CPU."""
    changes = {"gpu": True, "augment": "device", "precision": "float32", "epochs": 3}
    for name, ranks in (("one", 1), ("two", 2), ("two again", 2)):
        run(tmp_path / name, inputs, ranks, **changes)
    assert_same_training(tmp_path / "two", tmp_path / "one", loss_tolerance=1e-2, dice_tolerance=2e-2)
    assert written(tmp_path / "two") == written(tmp_path / "two again")


def test_more_processes_than_gpus_are_one_line(inputs, tmp_path):
    process = start(tmp_path, inputs, torch.cuda.device_count() + 1, gpu=True)
    _, error = process.communicate(timeout=200)
    assert process.returncode == 1
    assert "start as many processes as there are GPUs" in error
