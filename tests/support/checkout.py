"""The project in miniature as a git repository of its own, for tests that run `dvc` for real."""

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

from ruamel.yaml import YAML

from hymunet import params

ROOT = Path(__file__).resolve().parents[2]
TINY = {
    "data": {"source": "synthetic", "synthetic": {"images": 40, "size": 64, "seed": 0}},
    "prepare": {"image_size": 32},
    "validate": {"min_images": 10, "median_mask_area": [0.0, 1.0]},
    "train": {"epochs": 1, "batch_size": 8, "workers": 0, "example_every": 0},
    "evaluate": {"bootstrap": 100},
    "register": {"model_name": "tiny"},
}
ENVIRONMENT = {
    **{key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "HYMUNET_"))},
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DVC_NO_ANALYTICS": "1",
    "NO_ALBUMENTATIONS_UPDATE": "1",
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": str(ROOT),  # the programs are the checkout's; only the library is installed
}


def write_params(path: Path, changes: dict) -> None:
    content = params.read_yaml(ROOT / "profiles/paper.yaml")
    for section, values in changes.items():
        content[section] |= values
    YAML().dump(content, path)


def run(folder: Path, *command: str, timeout: float = 280) -> subprocess.CompletedProcess:
    return subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=timeout)


def make_checkout(folder: Path) -> Path:
    """The tracked files with tiny parameters, committed. `folder` is there and empty."""
    for name in subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    for library in (ROOT / "hymunet/ops").glob("*.so"):
        shutil.copy(library, folder / "hymunet/ops")
    write_params(folder / "params.yaml", TINY)
    for command in (
        ["git", "init", "-q"],
        ["git", "config", "user.email", "test@example.org"],
        ["git", "config", "user.name", "test"],
        ["git", "add", "-A"],
        ["git", "commit", "-q", "-m", "checkout"],
    ):
        subprocess.run(command, cwd=folder, check=True)
    return folder


def stages_run(result: subprocess.CompletedProcess) -> list[str]:
    return [line.split("'")[1] for line in result.stdout.splitlines() if line.startswith("Running stage")]


def versions(folder: Path) -> list[str]:
    with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as connection:
        return [str(version) for (version,) in connection.execute("SELECT version FROM model_versions")]
