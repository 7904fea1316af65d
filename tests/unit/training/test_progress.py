"""What a training tells of itself: that silent work goes on, and which steps counted for nothing."""

import re
import time

import pytest
import torch

from hymunet.training import learner, trainer
from hymunet.training.progress import told
from tests.support.training_data import drawn, sections, write_inputs


def test_it_is_said_until_the_work_has_ended():
    lines = []
    with told(lines.append, "compiling the step", every=0.05):
        time.sleep(0.32)
    said = len(lines)
    assert 2 <= said <= 6
    assert all(re.fullmatch(r"compiling the step, 0 s so far", line) for line in lines)
    time.sleep(0.12)
    assert len(lines) == said


def test_what_is_over_at_once_says_nothing():
    lines = []
    with told(lines.append, "compiling the step"):
        pass
    assert not lines


def test_a_failure_ends_it_and_passes():
    lines = []
    with pytest.raises(ValueError, match="no compiler"), told(lines.append, "compiling", every=0.05):
        raise ValueError("no compiler")
    time.sleep(0.12)
    assert not lines


def test_the_line_of_an_epoch_says_how_many_steps_were_skipped_in_it(tmp_path, monkeypatch, capsys):
    inputs = write_inputs(tmp_path / "inputs", *drawn(30, 32), validation=6, test=4)
    learn, bad = learner.Learner.learn, {3, 7, 8}

    def suffer(self, batch):
        expand = self.step.expand
        if self.progress.step in bad:
            self.step.expanded = lambda inputs: (expand(inputs)[0] * torch.inf, expand(inputs)[1])
        learn(self, batch)
        self.step.expanded = expand

    monkeypatch.setattr(learner.Learner, "learn", suffer)
    monkeypatch.setenv("HYMUNET_TRACKING", "off")
    paths = trainer.Paths(inputs.prepared, inputs.split, tmp_path / "model", tmp_path / "reports", str(tmp_path / "c"))
    assert trainer.train(*sections(epochs=3, batch_size=4, example_every=0), paths) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch ")]
    told = [line.partition(")")[2].strip() for line in lines]
    assert told == ["1 of 5 steps not finite, skipped", "2 of 5 steps not finite, skipped", ""]
