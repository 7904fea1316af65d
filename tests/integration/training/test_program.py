"""The program as a user meets it: signals, exit codes, bad input, S3."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hymunet.processors import thread_variables
from tests.support.training_data import ROOT, Inputs, drawn, write_inputs, write_params, written

pytestmark = pytest.mark.timeout(600)
NARROW = {"size": [8, 8, 8, 8], "epochs": 5, "example_every": 0}  # checkpoints of which one a step is soon in a store


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Inputs:
    return write_inputs(tmp_path_factory.mktemp("inputs") / "inputs", *drawn(30, 32), validation=6, test=4)


def start(folder: Path, inputs: Inputs, env: dict[str, str] | None = None, **changes) -> subprocess.Popen[str]:
    folder.mkdir(exist_ok=True)
    parameters = write_params(folder / "params.yaml", **changes)
    command = [sys.executable, "-m", "components.train", "--params", str(parameters), *inputs.arguments()]
    outputs = ["--model", str(folder / "out" / "model"), "--reports", str(folder / "out" / "reports")]
    paths = {"PYTHONPATH": str(ROOT), "HYMUNET_CHECKPOINTS": str(folder / "checkpoints"), "HYMUNET_TRACKING": "off"}
    paths["PYTHONUNBUFFERED"] = ""  # as where nobody set it: an epoch's line is read when it is done
    return subprocess.Popen(
        [*command, *outputs],
        cwd=folder,
        env={**os.environ, **thread_variables(1), **paths, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(folder: Path, inputs: Inputs, **options) -> tuple[int, str, str]:
    process = start(folder, inputs, **options)
    try:
        out, error = process.communicate(timeout=500)
    finally:
        process.kill()
    return process.returncode, out, error


@pytest.fixture(scope="module")
def whole(inputs, tmp_path_factory) -> Path:
    """The training that nobody interrupts, with neither loader processes nor checkpoints on the way."""
    folder = tmp_path_factory.mktemp("whole")
    assert run(folder, inputs, **NARROW)[0] == 0
    return folder


def test_sigterm_ends_with_75_and_the_next_call_finishes_the_same(inputs, whole, tmp_path):
    changes = {**NARROW, "workers": 2}
    process = start(tmp_path / "parts", inputs, **changes)
    assert process.stdout is not None
    process.stdout.readline()  # the first epoch is done
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=300)
    assert process.returncode == 75
    assert not (tmp_path / "parts" / "out").exists()
    code, out, _ = run(tmp_path / "parts", inputs, **changes)
    assert code == 0
    assert "epoch 1/5" not in out
    assert "epoch 5/5" in out
    assert written(tmp_path / "parts" / "out") == written(whole / "out")


def test_checkpoints_in_s3(inputs, whole, tmp_path, s3_server):
    """A machine without a disk: killed, and continued by another one that shares nothing but the bucket."""
    bucket = s3_server.create_bucket("checkpoints-of-a-training")
    env = {**s3_server.env, "HYMUNET_CHECKPOINTS": f"s3://{bucket}/team/runs"}
    changes = {**NARROW, "checkpoint_minutes": 1e-6}
    process = start(tmp_path / "first", inputs, env, **changes)
    assert process.stdout is not None
    for _ in range(2):  # when the second epoch is told, the first is in the bucket
        process.stdout.readline()
    process.kill()
    process.communicate(timeout=300)
    listed = s3_server.client().list_objects_v2(Bucket=bucket, Prefix="team/runs/")["Contents"]
    assert len([entry for entry in listed if entry["Key"].endswith(".json")]) in (1, 2, 3)
    code, out, error = run(tmp_path / "second", inputs, env=env, **changes)
    assert code == 0, error
    assert "epoch 1/5" not in out
    assert written(tmp_path / "second" / "out") == written(whole / "out")


def test_checkpoints_that_cannot_be_written_stop_at_once_in_one_line(inputs, tmp_path, s3_server):
    env = {**s3_server.env, "HYMUNET_CHECKPOINTS": "s3://no-such-bucket-here/runs"}
    code, _, error = run(tmp_path, inputs, env=env)
    assert code == 1
    assert error.strip().splitlines()[-1].startswith("train: s3://no-such-bucket-here/runs/")
    assert "checkpoints cannot be written here" in error
    assert "Traceback" not in error


def test_impossible_values_are_one_line(inputs, tmp_path):
    code, _, error = run(tmp_path, inputs, batch_size=24)
    assert code == 1
    assert error.startswith("train: train.batch_size 24 exceeds the 20 training images")
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_missing_inputs_are_one_line(inputs, tmp_path):
    elsewhere = Inputs(tmp_path / "nothing")
    code, _, error = run(tmp_path, elsewhere)
    assert code == 1
    assert "run the validate step first" in error
    assert len(error.strip().splitlines()) == 1


def test_help_answers_before_torch_could_be_imported():
    begin = time.monotonic()
    command = [sys.executable, "-X", "importtime", "-m", "components.train", "--help"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert "resume" in result.stdout or "interrupted" in result.stdout.lower()
    imported = {line.split("|")[-1].strip().split(".")[0] for line in result.stderr.splitlines() if "|" in line}
    assert not imported & {"torch", "mlflow", "numpy", "albumentations", "matplotlib"}
    assert time.monotonic() - begin < 20
