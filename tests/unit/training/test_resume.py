"""Stopped anywhere and continued, a training ends with the same bytes."""

import json
import logging
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from hymunet import models
from hymunet.training import capture, learner, reports, trainer, validation
from hymunet.training.tracking import journal
from tests.support.training_data import Inputs, drawn, sections, write_inputs, written


@pytest.fixture(autouse=True)
def no_tracking(monkeypatch):
    monkeypatch.setenv("HYMUNET_TRACKING", "off")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Inputs:
    return write_inputs(tmp_path_factory.mktemp("inputs") / "inputs", *drawn(30, 32), validation=6, test=4)


@pytest.fixture(scope="module")
def whole(inputs, tmp_path_factory) -> Path:
    """A run that nobody touched."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HYMUNET_TRACKING", "off")
        assert run(inputs, folder) == 0
    return folder


def paths(inputs, folder: Path) -> trainer.Paths:
    return trainer.Paths(
        inputs.prepared, inputs.split, folder / "model", folder / "reports", str(folder / "checkpoints")
    )


def run(inputs, folder: Path, stop_at: int | None = None, number: int = signal.SIGTERM, **changes) -> int:
    """One life; a signal arrives while step `stop_at` is being made."""
    learn = learner.Learner.learn

    def interrupted(self, batch):
        if self.progress.step + 1 == stop_at:
            os.kill(os.getpid(), number)
        learn(self, batch)

    learner.Learner.learn = interrupted
    try:
        return trainer.train(*sections(**changes), paths(inputs, folder))
    finally:
        learner.Learner.learn = learn


VARIANTS = {
    "workers": {"workers": 2},
    "device": {"augment": "device", "name": "unet"},
    "ema": {"ema_decay": 0.9, "batch_size": 6, "accumulate": 2, "deep_supervision": True},
}


@pytest.mark.parametrize(
    "variant", ["workers", *(pytest.param(name, marks=pytest.mark.slow) for name in VARIANTS if name != "workers")]
)
def test_stopped_in_the_middle_of_epochs_and_continued_it_ends_the_same(inputs, tmp_path, variant):
    changes = VARIANTS[variant]
    assert run(inputs, tmp_path / "whole", **changes) == 0
    expected = written(tmp_path / "whole")
    assert {"model/model.safetensors", "model/model.json", "reports/history.json"} <= set(expected)
    steps = 2 * (20 // changes.get("batch_size", 4))
    for stop in (1, steps // 2 - 1, steps // 2, steps - 1):  # the first step, within, at the end of, within an epoch
        assert run(inputs, tmp_path / "parts", stop, **changes) == 75
        assert not (tmp_path / "parts" / "model").exists()
    assert run(inputs, tmp_path / "parts", **changes) == 0
    assert written(tmp_path / "parts") == expected


def test_two_identical_runs_write_identical_files(inputs, whole, tmp_path):
    assert run(inputs, tmp_path) == 0
    assert written(tmp_path) == written(whole)


def test_what_is_immaterial_may_change_on_the_way(inputs, whole, tmp_path):
    """Workers, the time between checkpoints: the run goes on, and ends the same."""
    assert run(inputs, tmp_path, 3, workers=2) == 75
    assert run(inputs, tmp_path, 7, workers=1, checkpoint_minutes=1e-6) == 75
    assert run(inputs, tmp_path) == 0
    assert written(tmp_path) == written(whole)


def test_another_seed_is_another_run_which_is_said(inputs, whole, tmp_path, capsys):
    shutil.copytree(whole / "checkpoints", tmp_path / "checkpoints")
    before = {path: path.read_bytes() for path in (tmp_path / "checkpoints").rglob("*.*")}
    assert run(inputs, tmp_path, seed=1) == 0
    assert "train.seed: 1 here, 0 there); it stays there, and is finished" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in before} == before
    assert written(tmp_path)["model/model.safetensors"] != written(whole)["model/model.safetensors"]


def test_a_finished_run_repeats_its_outputs_at_once(inputs, whole, monkeypatch):
    expected = written(whole)
    shutil.rmtree(whole / "model")
    shutil.rmtree(whole / "reports")

    def refuse(*_):
        raise AssertionError("a finished run learns no more")

    monkeypatch.setattr(learner.Learner, "learn", refuse)
    assert trainer.train(*sections(), paths(inputs, whole)) == 0
    assert written(whole) == expected


@pytest.fixture
def interruptible():
    """Python's own handler of SIGINT, which a shell's background job starts without."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_from_the_keyboard_saves_too(inputs, tmp_path, interruptible):
    assert run(inputs, tmp_path, 3, signal.SIGINT) == 130
    assert [path.name for path in sorted((tmp_path / "checkpoints").glob("*/*.json"))] == ["000000003.json"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_test_split_changes_nothing(whole, tmp_path):
    """Other test images, the same training: not one byte of them reaches it."""
    images, masks = drawn(30, 32)
    poisoned = write_inputs(tmp_path / "inputs", images, masks, validation=6, test=4)
    images[26:], masks[26:] = 255 - images[26:], 1 - masks[26:]
    np.save(poisoned.prepared / "images.npy", images)
    np.save(poisoned.prepared / "masks.npy", masks)
    assert run(poisoned, tmp_path) == 0
    assert written(tmp_path) == written(whole)


def test_the_model_loads_and_knows_where_it_comes_from(whole):
    model, info = models.load(whole / "model")
    history = json.loads((whole / "reports" / "history.json").read_text())
    assert [record["epoch"] for record in history] == [1, 2]
    assert info["validation_dice"] == max(record["validation_dice"] for record in history)
    assert info["epoch"] == 1 + [record["validation_dice"] for record in history].index(info["validation_dice"])
    assert info["image_size"] == 32
    assert len(info["run_key"]) == 16
    assert not model.training


def test_a_full_disk_does_not_end_a_training(inputs, tmp_path, monkeypatch, caplog):
    from hymunet.training.checkpoint_store import Folder

    write = Folder.write

    def full(self, name, content):
        if "safetensors" in name:
            raise OSError(28, "No space left on device")
        write(self, name, content)

    monkeypatch.setattr(Folder, "write", full)
    with caplog.at_level(logging.WARNING):
        assert run(inputs, tmp_path, batch_size=10, checkpoint_minutes=1e-6) == 0
    assert "no checkpoint at step 1" in caplog.text
    assert (tmp_path / "model" / "model.json").exists()


@pytest.mark.parametrize("before", [None, 7])
def test_a_stop_that_the_compiler_of_the_validation_gets_too(inputs, whole, tmp_path, monkeypatch, before):
    """A signal to the whole group ends the compiler while an epoch, the first or the last, is judged: no score."""
    if before:
        assert run(inputs, tmp_path, before) == 75

    def die(*_):
        os.kill(os.getpid(), signal.SIGTERM)
        raise RuntimeError("C++ compile error")

    with monkeypatch.context() as patch:
        patch.setattr(capture.Engine, "prepare_validation", die)
        assert run(inputs, tmp_path) == 75
    assert not (tmp_path / "model").exists()
    assert run(inputs, tmp_path) == 0
    assert written(tmp_path) == written(whole)


def test_a_stop_while_an_epoch_is_judged_is_heard_after_it(inputs, whole, tmp_path, monkeypatch):
    dice = validation.Validation.dice

    def interrupted(self, *arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        return dice(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(validation.Validation, "dice", interrupted)
        assert run(inputs, tmp_path) == 75
    assert [path.name for path in sorted((tmp_path / "checkpoints").glob("*/*.json"))] == ["000000005.json"]
    assert run(inputs, tmp_path) == 0
    assert written(tmp_path) == written(whole)


def fails_once(function, number):
    """`function`, of which the first call finds the disk full."""
    calls = iter(range(number))

    def failing(*arguments):
        if next(calls, None) is not None:
            raise OSError(28, "No space left on device")
        return function(*arguments)

    return failing


@pytest.mark.parametrize(
    ("owner", "name", "said"),
    [
        (reports.atomic, "write", "no reports of epoch 1 ([Errno 28] No space left on device)"),
        (journal.Tracker, "sync", "no checkpoint at step 1 ([Errno 28] No space left on device)"),
    ],
)
def test_a_disk_that_was_full_for_a_while_costs_no_output(
    inputs, whole, tmp_path, monkeypatch, caplog, owner, name, said
):
    monkeypatch.setattr(owner, name, fails_once(getattr(owner, name), 1))
    with caplog.at_level(logging.WARNING):
        assert run(inputs, tmp_path, checkpoint_minutes=1e-6) == 0
    assert said in caplog.text
    assert written(tmp_path) == written(whole)


def test_a_store_that_fails_while_it_is_read_throws_no_training_away(inputs, whole, tmp_path, monkeypatch):
    from hymunet.training.checkpoint_store import Folder

    assert run(inputs, tmp_path, 7) == 75
    saved = sorted((tmp_path / "checkpoints").rglob("*"))

    def fail(self, name):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "read", fail)
        with pytest.raises(OSError, match="Input/output error"):
            run(inputs, tmp_path)
    assert sorted((tmp_path / "checkpoints").rglob("*")) == saved
    assert run(inputs, tmp_path) == 0
    assert written(tmp_path) == written(whole)


def test_the_rate_is_told_where_no_terminal_shows_a_bar(inputs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYMUNET_TRACKING", "on")
    monkeypatch.setattr(journal, "DeliveredJournal", journal.Journal)
    told = []
    monkeypatch.setattr(journal.Journal, "metrics", lambda _, step, values: told.append(values))
    assert run(inputs, tmp_path, epochs=4) == 0
    rates = [values["images_per_second"] for values in told if "images_per_second" in values]
    assert rates
    assert min(rates) > 0
