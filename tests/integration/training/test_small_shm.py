"""Loader processes where /dev/shm is small, fills up, or they die: a real small one, in a namespace of its own."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from hymunet.processors import thread_variables
from tests.support.training_data import ROOT, Inputs, drawn, write_inputs, write_params, written

pytestmark = pytest.mark.timeout(600)
BATCH, SIZE = 8, 64
BYTES = BATCH * SIZE * SIZE * 4


def _namespaces() -> bool:
    command = ["unshare", "-m", "mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", "/dev/shm"]
    return bool(shutil.which("unshare")) and subprocess.run(command, capture_output=True).returncode == 0


needs_namespaces = pytest.mark.skipif(not _namespaces(), reason="/dev/shm can be mounted anew by root alone")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Inputs:
    return write_inputs(tmp_path_factory.mktemp("inputs") / "inputs", *drawn(30, SIZE), validation=6, test=4)


def start(folder: Path, inputs: Inputs, shm: str | None, ranks: int = 1, **changes) -> subprocess.Popen[str]:
    folder.mkdir(exist_ok=True)
    parameters = write_params(folder / "params.yaml", batch_size=BATCH, example_every=0, **changes)
    command = [sys.executable, "-m", "components.train", "--params", str(parameters), *inputs.arguments()]
    command += ["--model", str(folder / "out/model"), "--reports", str(folder / "out/reports")]
    if shm:
        mount = f'mount -t tmpfs -o size={shm} tmpfs /dev/shm && exec "$@"'
        command = ["unshare", "-m", "sh", "-c", mount, "sh", *command]
    own = {"PYTHONPATH": str(ROOT), "HYMUNET_TRACKING": "off", "HYMUNET_RANKS": str(ranks), "PYTHONUNBUFFERED": "1"}
    environment = {**os.environ, **thread_variables(1), **own}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=folder, env=environment, text=True, **pipes)


def ended(process: subprocess.Popen[str], seconds: float) -> tuple[str, str]:
    try:
        return process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        for child in [*psutil.Process(process.pid).children(recursive=True), process]:
            child.kill()
        raise


@pytest.fixture(scope="module")
def whole(inputs, tmp_path_factory):
    """Without loader processes."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    process = start(folder, inputs, None, epochs=2, workers=0)
    out, error = ended(process, 300)
    assert process.returncode == 0, out + error
    return folder


FEWER = " ahead each. To have them all: "  # how many processes depends on the processors, too
ROOMS = {  # KiB of /dev/shm, ranks -> what is said
    "for all": (BYTES * 12 // 1024, 1, ""),
    "for fewer batches": (BYTES * 5 // 1024, 1, FEWER),
    "for none": (BYTES // 1024, 1, "; the training process makes its batches itself"),
    "for fewer, of two ranks": (BYTES * 5 // 1024, 2, FEWER),
}


@needs_namespaces
@pytest.mark.parametrize(
    "room", [room if room == "for fewer batches" else pytest.param(room, marks=pytest.mark.slow) for room in ROOMS]
)
def test_a_training_takes_what_fits_says_so_and_ends_the_same(inputs, whole, tmp_path, room):
    kib, ranks, words = ROOMS[room]
    changes = {"epochs": 2, "workers": 2, "sync_batch_norm": True} if ranks > 1 else {"epochs": 2, "workers": 2}
    process = start(tmp_path / "run", inputs, f"{kib}k", ranks, **changes)
    out, error = ended(process, 300)
    assert process.returncode == 0, out + error
    assert words in out
    assert ("--shm-size" in out) == bool(words)
    if ranks == 1:
        assert written(tmp_path / "run/out") == written(whole / "out")


def loaders(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The processes below, without those that compile or deliver; of all ranks."""
    below = psutil.Process(process.pid).children(recursive=True)
    return [child for child in below if child.name() == "pt_data_worker" or not child.children()]


def fill(process):
    """By something else in the container, to the last byte, and what is given free meanwhile, too."""
    file = os.open(f"/proc/{process.pid}/root/dev/shm/other", os.O_CREAT | os.O_WRONLY)
    until = time.monotonic() + 20
    while process.poll() is None and time.monotonic() < until:
        for size in (2**16, 2**12):
            with contextlib.suppress(OSError):
                while True:
                    os.write(file, bytes(size))
        time.sleep(0.02)
    os.close(file)


def kill_one(process):
    loaders(process)[-1].send_signal(signal.SIGKILL)


FAULTS = {  # what happens, with how many ranks -> exit codes, what is said
    "it fills up": (fill, 1, {74}, "found no room in /dev/shm, which something else has filled; give the container"),
    "it fills up, with two ranks": (fill, 2, {70, 74}, "found no room in /dev/shm"),
    "one is killed": (kill_one, 1, {74}, "a loader process was killed"),
}


@needs_namespaces
@pytest.mark.parametrize(
    "fault", [fault if fault == "one is killed" else pytest.param(fault, marks=pytest.mark.slow) for fault in FAULTS]
)
def test_nothing_waits_without_bound(inputs, tmp_path, fault):
    act, ranks, codes, words = FAULTS[fault]
    process = start(tmp_path / "run", inputs, "64m", ranks, epochs=2000, workers=2)
    assert process.stdout is not None
    while not process.stdout.readline().startswith("epoch 2/"):
        assert process.poll() is None
    act(process)
    _, error = ended(process, 60)
    assert process.returncode in codes, error
    assert words in error
    if ranks == 1:
        assert "Traceback" not in error
