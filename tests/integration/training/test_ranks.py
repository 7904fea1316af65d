"""Several processes, one training: the same losses, exact scores, one fate."""

import subprocess
import time
from contextlib import nullcontext
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest
import torch
from safetensors.numpy import load_file

from hymunet import models
from hymunet.data.feed.dataset import TrainingData
from hymunet.training.distributed import Ranks
from hymunet.training.validation import Validation
from tests.integration.training.torchrun import assert_same_training, history, run, start
from tests.support.training_data import Inputs, drawn, write_inputs

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]


CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Inputs:
    return write_inputs(tmp_path_factory.mktemp("inputs") / "inputs", *drawn(33, 32), validation=7, test=4)


def members(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The ranks that torchrun started."""
    children = psutil.Process(process.pid).children()
    return [child for child in children if "components.train" in " ".join(child.cmdline())]


def kill_all(process: subprocess.Popen[str]) -> None:
    for child in members(process):  # torchrun gives each a session of its own
        child.kill()
    process.kill()


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


@pytest.mark.parametrize(
    ("name", "sync_batch_norm", "ema_decay"),
    [
        ("unet", False, 0.9),
        pytest.param("unet", True, 0.9, marks=pytest.mark.slow),
        pytest.param("unet", False, 0.0, marks=pytest.mark.slow),
        pytest.param("unet", True, 0.0, marks=pytest.mark.slow),
        pytest.param("hymunet", False, 0.0, marks=pytest.mark.slow),
    ],
)
def test_the_score_is_that_of_the_model_that_is_published(inputs, tmp_path, name, sync_batch_norm, ema_decay):
    """Each rank normalises with statistics of its own, unless they are synchronised; one model is scored."""
    changes = {"name": name, "sync_batch_norm": sync_batch_norm, "ema_decay": ema_decay, "learning_rate": 3e-3}
    run(tmp_path, inputs, 2, epochs=2, precision="float32", **changes)
    model, info = models.load(tmp_path / "model")
    validation = Validation(TrainingData(inputs.prepared, inputs.split).subset("validation"), 8, CPU, Ranks())
    assert validation.dice(model, nullcontext()) == pytest.approx(info["validation_dice"], abs=1e-4)
    assert info["validation_dice"] == max(record["validation_dice"] for record in history(tmp_path))


@pytest.mark.slow
def test_ranks_train_the_same_in_bfloat16(inputs, tmp_path):
    """Which is what `auto` means on a CPU that computes in it."""
    for ranks in (1, 2):
        run(tmp_path / str(ranks), inputs, ranks, epochs=1, precision="bf16")
    assert_same_training(tmp_path / "2", tmp_path / "1", loss_tolerance=1e-2, dice_tolerance=2e-2)


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


@pytest.mark.slow
@pytest.mark.parametrize("validation", [1, 7])
def test_pictures_show_the_same_images_whatever_the_number_of_ranks(tmp_path, validation):
    """A rank may have no validation image, and another number of ranks may publish what these have drawn."""
    inputs = write_inputs(tmp_path / "inputs", *drawn(16 + validation + 1, 32), validation=validation, test=1)
    changes = {"size": [8, 8, 8, 8], "epochs": 1, "example_every": 1}
    pictures = []
    for ranks in (2, 1):
        out = run(tmp_path, inputs, ranks, **changes)
        picture = cv2.imread(str(tmp_path / "reports" / "examples" / "epoch-0001.png"))
        assert picture is not None
        assert picture.shape == (256, 256 * min(6, validation), 3)
        pictures.append(picture)
    assert "all 2 steps are done already" in out
    assert (pictures[0] == pictures[1]).all()


@pytest.mark.slow
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
