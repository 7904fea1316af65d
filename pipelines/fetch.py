"""Brings a cluster's run home: its lock, its parameters and its outputs, so that `dvc status` finds nothing changed."""

import io
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from hymunet import atomic, params
from hymunet.addresses import said, without_secrets
from hymunet.profiles import lay_over
from pipelines.records import Run
from pipelines.workspace import open_remote, read_lock


def fetch(run: str, remote: str, root: Path = Path(), force: bool = False) -> None:
    """Writes dvc.lock and params.yaml of the project at `root` as the run had them, and checks its outputs out.

    Raises ValueError when the run is unknown, the project's sources are not those of the run, or one of the two files
    would be lost; with `force` it is overwritten. When the outputs cannot be had, both files are as before.
    """
    with tempfile.TemporaryDirectory(prefix="hymunet-fetch-") as folder:
        lock = Path(folder) / "dvc.lock"
        _fetch_lock(run, remote, Path(folder), lock)
        stages = read_lock(lock)
        yaml = YAML()
        yaml.width = 4096
        document = yaml.load((root / "params.yaml").read_text(encoding="utf-8"))
        adopt(document, stages)
        params.check(document, f"run {run}")
        text = io.StringIO()
        yaml.dump(document, text)
        contents = {root / "dvc.lock": lock.read_bytes(), root / "params.yaml": text.getvalue().encode()}
    before = {path: path.read_bytes() if path.exists() else None for path in contents}
    if not force and (lost := [path.name for path in contents if _would_be_lost(path, before[path], contents[path])]):
        raise ValueError(f"{' and '.join(lost)}: not committed, and run {run} has another; commit it, or pass --force")
    try:
        for path, content in contents.items():
            atomic.write(path, content)
        _dvc(root, "remote", "add", "--local", "--force", "--quiet", "run", remote)
        _dvc(root, "pull", "--remote", "run", *stages)
    except BaseException:
        for path, old in before.items():
            path.unlink(missing_ok=True) if old is None else atomic.write(path, old)
        raise
    print(f"run {run}: {len(stages)} stages are here; `dvc status` compares them with your sources")


def _fetch_lock(run: str, remote: str, empty: Path, lock: Path) -> None:
    try:
        with open_remote(empty, remote) as store:
            Run(store, run).fetch_lock(lock)
    except (ValueError, OSError):
        raise
    except Exception as error:  # DVC's, the store's client's, which have no common base
        raise ValueError(
            f"{without_secrets(remote)}: the store cannot be read ({type(error).__name__}: {said(error)}); "
            "correct its address in the settings, or the credentials in the environment"
        ) from None


def adopt(document: Any, stages: dict[str, Any]) -> None:
    """Sets in a params.yaml what the lock's stages ran with; comments stay."""
    for entry in stages.values():
        for name, value in entry.get("params", {}).get("params.yaml", {}).items():
            *path, last = name.split(".")  # a section, or a part of one: data.source
            place = document
            for part in path:
                place = place[part]
            lay_over(place, {last: value})


def _would_be_lost(path: Path, here: bytes | None, new: bytes) -> bool:
    """Whether the file differs from the new one and from what git has: the only copy of somebody's work."""
    if here is None or here == new:
        return False
    status = ["git", "-C", str(path.parent), "status", "--porcelain", "--ignored", "--", path.name]
    done = subprocess.run(status, capture_output=True, text=True)
    return done.returncode != 0 or bool(done.stdout.strip())


def _dvc(root: Path, *arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=root)
    if done.returncode:
        raise ValueError(f"dvc {without_secrets(' '.join(arguments))} failed with exit code {done.returncode}")
