"""`dvc exp run --temp` and `--queue`, which work in a copy of the project that goes when they are done."""

import contextlib
import sqlite3
import time
from pathlib import Path

import pytest

from hymunet.mlflow_store.relocation import COLUMNS
from tests.support.checkout import make_checkout, run, versions

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]


def succeeded(folder: Path, *command: str) -> str:
    result = run(folder, *command, timeout=1800)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result.stdout + result.stderr


def queued_one(folder: Path) -> str:
    told = succeeded(folder, "dvc", "exp", "run", "--queue", "-n", "queued", "-S", "train.seed=1")
    told += succeeded(folder, "dvc", "queue", "start")
    until = time.monotonic() + 1800
    while "Success" not in (status := succeeded(folder, "dvc", "queue", "status")):
        assert "Failed" not in status, succeeded(folder, "dvc", "queue", "logs", "queued")
        assert time.monotonic() < until, status
        time.sleep(2)
    return told + succeeded(folder, "dvc", "queue", "logs", "queued")


def addresses(folder: Path) -> set[str]:
    """All that the registry knows of artifacts."""
    with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as connection:
        found = [connection.execute(f"SELECT {column} FROM {table}").fetchall() for table, column in COLUMNS]
    return {address for rows in found for (address,) in rows if address}


def test_what_ran_in_a_temporary_copy_is_registered_in_the_project_for_good(tmp_path):
    project = make_checkout(tmp_path)
    told = succeeded(project, "dvc", "exp", "run", "--temp", "-n", "temporary")
    assert versions(project) == ["1"]
    told += queued_one(project)
    assert sorted(versions(project)) == ["1", "2"]
    for name, version in (("queued", 2), ("temporary", 1)):
        told += succeeded(project, "dvc", "exp", "apply", name)
        summary = succeeded(project, "hymunet", "summary")
        assert f"tiny version {version} " in summary, summary
        assert f"tiny version {3 - version} " not in summary
        told += succeeded(project, "dvc", "repro")  # asks the registry, which knows it
        told += summary
    assert sorted(versions(project)) == ["1", "2"]
    assert "has moved" not in told
    assert addresses(project)
    for address in addresses(project):
        assert Path(address.removeprefix("file://")).is_relative_to(project / "mlruns"), address
        assert ".dvc" not in Path(address).parts
    weights = list((project / "mlruns").rglob("model.safetensors"))
    assert len(weights) == 2
