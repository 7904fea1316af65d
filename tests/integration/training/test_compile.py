"""`train.compile` on a CPU: the same training within rounding, and a stop while the C++ compiler runs."""

import contextlib
import os
import signal
import time
from pathlib import Path

import pytest

from hymunet.training.interrupts import RESUME_ME
from tests.integration.training.torchrun import assert_same_training, start
from tests.support.training_data import drawn, write_inputs

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]
# Without stochastic depth: compiled code draws it from a generator of its own.
SETTINGS = {"name": "hymunet", "drop_path": 0.0, "precision": "float32", "sync_batch_norm": False}


@pytest.fixture
def inputs(tmp_path):
    return write_inputs(tmp_path / "inputs", *drawn(30, 32), validation=6, test=4)


@pytest.fixture(autouse=True)
def everything_is_compiled_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))


def compiles(process: int) -> bool:
    """Whether a C++ compiler works on a graph for this process."""
    children = [
        child for path in Path(f"/proc/{process}/task").glob("*/children") for child in path.read_text().split()
    ]
    with contextlib.suppress(OSError):  # one that has just ended
        return any(b".main.cpp\0" in Path(f"/proc/{child}/cmdline").read_bytes() for child in children)
    return False


def finish(process) -> None:
    _, error = process.communicate(timeout=2400)
    assert process.returncode == 0, error[-3000:]


def test_the_same_training_within_rounding(inputs, tmp_path):
    for compiled in ("off", "required"):
        finish(start(tmp_path / str(compiled), inputs, ranks=1, compile=compiled, **SETTINGS))
    assert_same_training(tmp_path / "required", tmp_path / "off")


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the compiler in /proc")
def test_a_stop_that_the_compiler_gets_too(inputs, tmp_path):
    """timeout(1) and a terminal signal the whole group: torch's C++ compiler dies of it in the middle of the step."""
    process = start(tmp_path, inputs, ranks=1, compile="required", **SETTINGS)
    while not compiles(process.pid):
        assert process.poll() is None, process.communicate()[1][-3000:]
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGTERM)
    _, error = process.communicate(timeout=300)
    assert process.returncode == RESUME_ME, error[-3000:]
    assert "Traceback" not in error
    assert not (tmp_path / "model").exists()
