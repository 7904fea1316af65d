"""The program starts its own ranks: they train what torchrun's train, end with its exit codes and never outlive it."""

import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from tests.integration.training.torchrun import run, start
from tests.support.training_data import Inputs, drawn, write_inputs, written

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]
DEFAULTS = {"sync_batch_norm": False, "epochs": 3}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    return write_inputs(tmp_path_factory.mktemp("inputs") / "inputs", *drawn(33, 32), validation=7, test=4)


@pytest.fixture(scope="module")
def whole(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    run(folder, inputs, 2, own=True, **DEFAULTS)
    return folder


def ranks_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    children = psutil.Process(process.pid).children()
    return [child for child in children if "components.train" in " ".join(child.cmdline())]


def test_two_ranks_are_started_and_train_what_torchruns_train(inputs: Inputs, whole: Path, tmp_path: Path) -> None:
    run(tmp_path, inputs, 2, **DEFAULTS)
    assert written(tmp_path) == written(whole)


@pytest.mark.parametrize(
    ("number", "expected"), [(signal.SIGTERM, 75), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)]
)
def test_a_signal_stops_every_rank_and_the_next_call_ends_with_the_same_bytes(
    inputs: Inputs, whole: Path, tmp_path: Path, number: int, expected: int
) -> None:
    process = start(tmp_path, inputs, 2, own=True, **DEFAULTS)
    assert process.stdout is not None
    process.stdout.readline()  # the first epoch is done
    ranks = ranks_of(process)
    assert len(ranks) == 2
    process.send_signal(number)
    _, error = process.communicate(timeout=120)
    assert process.returncode == expected, error
    assert "Traceback" not in error
    assert not any(rank.is_running() for rank in ranks)
    assert not (tmp_path / "model").exists()
    out = run(tmp_path, inputs, 2, own=True, **DEFAULTS)
    assert "goes on at step" in out
    assert written(tmp_path) == written(whole)


def test_a_killed_rank_ends_all_with_the_code_of_a_kill(inputs: Inputs, tmp_path: Path) -> None:
    process = start(tmp_path, inputs, 2, own=True, epochs=200)
    assert process.stdout is not None
    process.stdout.readline()
    ranks = ranks_of(process)
    ranks[1].kill()
    process.communicate(timeout=120)
    assert process.returncode in (137, 70), "one that is worth another try"
    assert not any(rank.is_running() for rank in ranks)


def test_ranks_share_the_threads_and_do_not_outlive_a_launcher_that_is_killed(inputs: Inputs, tmp_path: Path) -> None:
    """Each rank's environment is read where the kernel keeps it."""
    process = start(tmp_path, inputs, 2, own=True, threads=4, epochs=200)
    assert process.stdout is not None
    process.stdout.readline()
    ranks = ranks_of(process)
    assert [rank.environ()["OMP_NUM_THREADS"] for rank in ranks] == ["2", "2"]
    process.kill()
    process.wait(10)
    until = time.monotonic() + 10
    while any(rank.is_running() and rank.status() != psutil.STATUS_ZOMBIE for rank in ranks):
        assert time.monotonic() < until, "a rank trains on"
        time.sleep(0.1)


def test_what_a_user_got_wrong_is_exit_code_1_without_a_traceback(inputs: Inputs, tmp_path: Path) -> None:
    process = start(tmp_path, inputs, 2, own=True, batch_size=7)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 1
    lines = set(error.strip().splitlines())
    assert len(lines) == 1, error
    assert "train.batch_size 7 must be a multiple of ranks × train.accumulate = 2 × 1" in lines.pop()
