"""Brings a cluster's run home: its lock, its parameters and its outputs, so that `dvc status` has nothing to say."""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from hymunet import atomic, params
from pipelines.records import Run
from pipelines.workspace import open_remote, read_lock


def fetch(run: str, remote: str, root: Path = Path()) -> None:
    """Writes dvc.lock and params.yaml of the project at `root` as the run had them, and checks its outputs out.

    Raises ValueError when the run is unknown, or the project's sources are not those of the run.
    """
    with tempfile.TemporaryDirectory(prefix="hymunet-fetch-") as folder:
        lock = Path(folder) / "dvc.lock"
        with open_remote(Path(folder), remote) as store:
            Run(store, run).fetch_lock(lock)
        stages = read_lock(lock)
        yaml = YAML()
        yaml.width = 4096
        document = yaml.load((root / "params.yaml").read_text())
        adopt(document, stages)
        params.check(document, f"run {run}")
        atomic.write(root / "dvc.lock", lock.read_bytes())
    with tempfile.TemporaryFile("w+") as text:
        yaml.dump(document, text)
        text.seek(0)
        atomic.write(root / "params.yaml", text.read())
    _dvc(root, "remote", "add", "--local", "--force", "--quiet", "run", remote)
    _dvc(root, "pull", "--remote", "run", *stages)
    print(f"run {run}: {len(stages)} stages are here; `dvc status` compares them with your sources")


def adopt(document: Any, stages: dict[str, Any]) -> None:
    """Sets in a params.yaml what the lock's stages ran with; comments stay."""
    for entry in stages.values():
        for section, values in entry.get("params", {}).get("params.yaml", {}).items():
            for key, value in values.items():
                if document[section].get(key) != value:
                    document[section][key] = value


def _dvc(root: Path, *arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=root)
    if done.returncode:
        raise ValueError(f"dvc {' '.join(arguments)} failed with exit code {done.returncode}")
