"""Loader processes that are stopped (SIGSTOP), while they hand a batch over or at rest: no wait is without bound."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from hymunet.processors import thread_variables
from tests.support.training_data import ROOT, Inputs, drawn, write_inputs, write_params

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
HASTY = """
import signal, sys
from components import cli
from components.train.__main__ import main
from hymunet.training import patience

def less_patient(*_):
    patience.NOTICE, patience.PATIENCE = 2.0, 6.0

signal.signal(signal.SIGUSR1, less_patient)
sys.exit(cli.guarded("train", main))
"""  # the program itself, which a signal makes less patient


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Inputs:
    return write_inputs(tmp_path_factory.mktemp("inputs") / "inputs", *drawn(30, 32), validation=6, test=4)


@contextlib.contextmanager
def training(folder: Path, inputs: Inputs, program: list[str], ranks: int = 1):
    """Told its first epoch; ended with all its processes in any case."""
    parameters = write_params(
        folder / "params.yaml", batch_size=4, epochs=9999, workers=2, example_every=0, sync_batch_norm=ranks > 1
    )
    outputs = ["--model", str(folder / "model"), "--reports", str(folder / "reports")]
    command = [sys.executable, *program, "--params", str(parameters), *inputs.arguments(), *outputs]
    own = {"PYTHONPATH": str(ROOT), "HYMUNET_TRACKING": "off", "HYMUNET_RANKS": str(ranks), "PYTHONUNBUFFERED": "1"}
    environment = {**os.environ, **thread_variables(1), **own}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, cwd=folder, env=environment, text=True, **pipes)
    assert process.stdout is not None
    try:
        while not process.stdout.readline().startswith("epoch 1/"):
            assert process.poll() is None, process.communicate()
        yield process
    finally:
        below = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        for one in [*below, process]:
            with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
                one.kill()


def hasten(process: subprocess.Popen[str]) -> None:
    """From the next batches on."""
    process.send_signal(signal.SIGUSR1)
    assert process.stdout is not None
    for _ in range(2):
        assert process.stdout.readline().startswith("epoch ")


def loaders(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Of all ranks."""
    below = psutil.Process(process.pid).children(recursive=True)
    return [child for child in below if child.name().startswith("pt_data_worker")]


def gone(processes: list[psutil.Process]) -> bool:
    return not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in processes)


@pytest.mark.parametrize(
    ("ranks", "number"),
    [
        (1, signal.SIGTERM),
        *(
            pytest.param(*row, marks=pytest.mark.slow)
            for row in ((2, signal.SIGTERM), (1, signal.SIGINT), (2, signal.SIGINT))
        ),
    ],
)
def test_a_training_whose_loaders_are_all_stopped_hears_signals(inputs, tmp_path, ranks, number):
    with training(tmp_path, inputs, ["-m", "components.train"], ranks) as process:
        stopped = loaders(process)
        assert len(stopped) == ranks * min(2, max(1, (os.cpu_count() or 1) // ranks))
        for one in stopped:
            one.suspend()
        time.sleep(1)  # what is ready is used up
        process.send_signal(number)
        _, error = process.communicate(timeout=100)  # seconds, most of them for Python's own end on a loaded machine
    assert process.returncode == (130 if number == signal.SIGINT else 75), error
    assert ranks > 1 or "Traceback" not in error  # a rank may be told of the other's end in the middle of a sum
    assert gone(stopped)


def test_a_stopped_loader_is_told_of_and_not_waited_for_without_end(inputs, tmp_path):
    with training(tmp_path, inputs, ["-c", HASTY]) as process:
        hasten(process)
        first, *others = loaders(process)
        first.suspend()
        _, error = process.communicate(timeout=120)
    assert process.returncode == 74, error
    told, ended = (line for line in error.splitlines() if "kill -CONT" in line)
    assert (
        f"loader processes are stopped (as by SIGSTOP or a debugger); let them go on with kill -CONT {first.pid}"
        in told
    )
    assert ended.startswith("train: no batch came from the loader processes for 6 s: loader processes")
    assert f"kill -CONT {first.pid} and start the training again" in ended
    assert "Traceback" not in error
    assert gone([first, *others])


@pytest.mark.slow
def test_a_stopped_loader_that_goes_on_costs_nothing(inputs, tmp_path):
    """And a pause of all, as by Ctrl-Z, is no fault of the loaders, however long."""
    with training(tmp_path, inputs, ["-c", HASTY]) as process:
        assert process.stdout is not None
        hasten(process)
        everyone = [psutil.Process(process.pid), *loaders(process)]
        for pause, group in ((2, everyone[1:2]), (12, everyone)):
            for one in group:
                one.suspend()
            time.sleep(pause)
            for one in group:
                one.resume()
            for _ in range(3):
                assert process.stdout.readline().startswith("epoch ")
        process.terminate()
        _, error = process.communicate(timeout=60)
    assert process.returncode == 75, error
