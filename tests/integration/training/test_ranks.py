"""Several processes, one training: the same losses, exact scores, one fate."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from safetensors.numpy import load_file

from tests.training_data import ROOT, Inputs, drawn, write_inputs, write_params

# What the order of float32 sums may change over ten steps of this training.
LOSS_TOLERANCE = 1e-3

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Inputs:
    return write_inputs(tmp_path_factory.mktemp("inputs") / "inputs", *drawn(33, 32), validation=7, test=4)


def start(folder: Path, inputs: Inputs, ranks: int, **changes) -> subprocess.Popen[str]:
    folder.mkdir(exist_ok=True)
    values = {"batch_size": 8, "sync_batch_norm": True, "example_every": 0, **changes}
    parameters = write_params(folder / "params.yaml", **values)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)] if ranks > 1 else []
    command = [sys.executable, *torchrun, "-m", "components.train", "--params", str(parameters), *inputs.arguments()]
    outputs = ["--model", str(folder / "model"), "--reports", str(folder / "reports")]
    paths = {"PYTHONPATH": str(ROOT), "HYMUNET_CHECKPOINTS": str(folder / "checkpoints"), "HYMUNET_TRACKING": "off"}
    return subprocess.Popen(
        [*command, *outputs],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", **paths},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def run(folder: Path, inputs: Inputs, ranks: int, **changes) -> str:
    process = start(folder, inputs, ranks, **changes)
    out, error = process.communicate(timeout=300)
    assert process.returncode == 0, error[-3000:]
    return out


def members(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The ranks that torchrun started."""
    children = psutil.Process(process.pid).children()
    return [child for child in children if "components.train" in " ".join(child.cmdline())]


def kill_all(process: subprocess.Popen[str]) -> None:
    for child in members(process):  # torchrun gives each a session of its own
        child.kill()
    process.kill()


def history(folder: Path) -> list[dict]:
    return json.loads((folder / "reports" / "history.json").read_text())


def assert_same_training(folder: Path, reference: Path) -> None:
    for ours, theirs in zip(history(folder), history(reference), strict=True):
        assert ours["step"] == theirs["step"]
        assert ours["learning_rate"] == theirs["learning_rate"]
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=LOSS_TOLERANCE)
        assert ours["validation_dice"] == pytest.approx(theirs["validation_dice"], abs=5e-3)


@pytest.fixture(scope="module")
def one_rank(inputs, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("one")
    run(folder, inputs, 1, epochs=3)
    return folder


@pytest.mark.parametrize("ranks", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_ranks_train_what_one_process_trains(inputs, one_rank, tmp_path, ranks):
    run(tmp_path, inputs, ranks, epochs=3)
    assert_same_training(tmp_path, one_rank)
    ours, theirs = (load_file(folder / "model" / "model.safetensors") for folder in (tmp_path, one_rank))
    assert ours.keys() == theirs.keys()
    assert np.mean([np.abs(ours[name] - theirs[name]).mean() for name in ours if ours[name].size > 1]) < 2e-3


@pytest.mark.slow
def test_ranks_may_come_and_go(inputs, one_rank, tmp_path):
    """2 → 1 → 2 ranks, each stopped after an epoch: one schedule, one training."""
    for ranks, stops_after in ((2, "epoch 1/3"), (1, "epoch 2/3"), (2, None)):
        process = start(tmp_path, inputs, ranks, epochs=3, checkpoint_minutes=1e-6)
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if stops_after and stops_after in line:
                kill_all(process)
        process.wait(60)
        if stops_after:
            assert stops_after in "".join(lines)
    assert "epoch 1/3" not in "".join(lines)
    assert_same_training(tmp_path, one_rank)


def test_a_killed_rank_ends_all_and_the_cause_is_shown(inputs, tmp_path):
    process = start(tmp_path, inputs, 2, epochs=200)
    assert process.stdout is not None
    process.stdout.readline()
    ranks = members(process)
    assert len(ranks) == 2
    ranks[1].kill()
    begin = time.monotonic()
    _, error = process.communicate(timeout=120)
    assert time.monotonic() - begin < 60
    assert process.returncode == 1
    assert "Signal 9 (SIGKILL)" in error
    assert not any(member.is_running() and member.status() != psutil.STATUS_ZOMBIE for member in ranks)


@pytest.mark.slow
def test_a_batch_that_ranks_cannot_share_is_one_line(inputs, tmp_path):
    process = start(tmp_path, inputs, 2, batch_size=7)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "train: train.batch_size 7 must be a multiple of ranks × train.accumulate = 2 × 1" in error
