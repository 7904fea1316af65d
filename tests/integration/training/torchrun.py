"""Trainings by torchrun, and how alike two of them must be."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hymunet.processors import thread_variables
from tests.support.training_data import ROOT, Inputs, write_params

# What the order of float32 sums may change over ten steps of this training.
LOSS_TOLERANCE = 1e-3


def start(
    folder: Path,
    inputs: Inputs,
    ranks: int,
    gpu: bool = False,
    own: bool = False,
    threads: int = 1,
    environment: dict[str, str] | None = None,
    **changes,
) -> subprocess.Popen[str]:
    """own: the program starts its ranks itself, as its users have it; else torchrun does."""
    folder.mkdir(parents=True, exist_ok=True)
    values = {"batch_size": 8, "sync_batch_norm": True, "example_every": 0, **changes}
    parameters = write_params(folder / "params.yaml", **values)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)] if ranks > 1 else []
    if own:
        torchrun = []
    command = [sys.executable, *torchrun, "-m", "components.train", "--params", str(parameters), *inputs.arguments()]
    outputs = ["--model", str(folder / "model"), "--reports", str(folder / "reports")]
    search = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    paths = {"PYTHONPATH": search, "HYMUNET_CHECKPOINTS": str(folder / "checkpoints"), "HYMUNET_TRACKING": "off"}
    paths["PYTHONUNBUFFERED"] = ""  # as where nobody set it: an epoch's line is read when it is done
    if own:
        paths["HYMUNET_RANKS"] = str(ranks)
    if not gpu:
        paths["CUDA_VISIBLE_DEVICES"] = ""
    return subprocess.Popen(
        [*command, *outputs],
        cwd=folder,
        env={**os.environ, **thread_variables(threads), **paths, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def run(folder: Path, inputs: Inputs, ranks: int, **changes) -> str:
    process = start(folder, inputs, ranks, **changes)
    out, error = process.communicate(timeout=300)
    assert process.returncode == 0, error[-3000:]
    warned = [line for line in error.splitlines() if "Warning" in line]
    assert all("only emulates bfloat16" in line for line in warned), error[-3000:]  # which some processors do
    return out


def history(folder: Path) -> list[dict]:
    return json.loads((folder / "reports" / "history.json").read_text())


def assert_same_training(
    folder: Path, reference: Path, loss_tolerance: float = LOSS_TOLERANCE, dice_tolerance: float = 5e-3
) -> None:
    for ours, theirs in zip(history(folder), history(reference), strict=True):
        assert ours["step"] == theirs["step"]
        assert ours["learning_rate"] == theirs["learning_rate"]
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=loss_tolerance)
        assert ours["validation_dice"] == pytest.approx(theirs["validation_dice"], abs=dice_tolerance)
