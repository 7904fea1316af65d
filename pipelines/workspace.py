"""A throw-away DVC project in a pod: the image's sources, this run's parameters, the locks of the stages before.

There is no git in a pod and little worth keeping: what the stage makes is pushed to the shared remote, and the lock is
handed on. A container that is started again in its pod finds the folder as it was left, and begins anew in it.
"""

import argparse
import contextlib
import errno
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from ruamel.yaml import YAML

from hymunet.addresses import holds_secrets, without_secrets
from pipelines import dvc_compat as dvc

SKIPPED = shutil.ignore_patterns(".git", ".venv", ".dvc", "__pycache__", "dvc.lock", "params.yaml")
MARK = ".hymunet-step"  # of a folder that steps fill, and may empty; locked by the one that works there
GOES_ON = {"checkpoints", "journal", "data/archives"}  # what another try begins with: hours of work, gigabytes

STORE_FAILED = 74  # as in components.cli: another try may help


class StageFailed(Exception):
    """The stage's command ended with `status`; 128 + n after signal n; 70 or 74 where it could not be run at all."""

    def __init__(self, stage: str, status: int, reason: str) -> None:
        super().__init__(f"stage {stage}: {reason}")
        self.status = status


@dataclass(frozen=True)
class Workspace:
    root: Path
    remote: str

    def create(self, source: Path, params: str, locks: list[Path]) -> None:
        """Fills the folder `root`, which is empty or was left by another try. `params`: the whole content of
        params.yaml, as YAML or JSON.

        ValueError for a folder with other files in it, OSError where another step works there.
        """
        take(self.root)
        shutil.copytree(source, self.root, ignore=SKIPPED, dirs_exist_ok=True)
        (self.root / "params.yaml").write_text(params, encoding="utf-8")
        configure(self.root, self.remote)
        if locks:
            write_lock(self.lock, merge_locks(locks))

    @property
    def lock(self) -> Path:
        return self.root / "dvc.lock"

    def cached_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.root.glob(".dvc/cache/files/**/*") if path.is_file())

    @contextlib.contextmanager
    def repo(self) -> Iterator[Any]:
        with dvc.repo(self.root) as repo:
            yield repo


_taken: dict[Path, TextIO] = {}


def take(root: Path) -> None:
    """The folder is this process's until it ends. Of what a try that was killed left there only GOES_ON stays: inputs
    may be half there, and DVC's own locks name processes whose numbers others have by now.
    """
    root.mkdir(parents=True, exist_ok=True)
    mark, whole = root / MARK, root.resolve()
    if not mark.exists() and any(root.iterdir()):
        raise ValueError(f"{root}: there are other files in this folder; name an empty one for the step's work")
    file = _taken.pop(whole, None)
    if file is None or not mark.exists():
        file = mark.open("a", encoding="ascii")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise OSError(errno.EBUSY, "another step works in this folder", str(root)) from None
    _taken[whole] = file
    _empty(root, {mark} | {root / name for name in GOES_ON})


def _empty(folder: Path, kept: set[Path]) -> None:
    for path in folder.iterdir():
        if path in kept:
            continue
        if path.is_symlink() or not path.is_dir():
            path.unlink()
        elif any(one.is_relative_to(path) for one in kept):
            _empty(path, kept)
        else:
            shutil.rmtree(path)


def configure(root: Path, remote: str) -> None:
    """ValueError for an address that would bring its secrets into DVC's file, and from there into pointers and logs."""
    if holds_secrets(remote):
        raise ValueError(
            f"the DVC remote {without_secrets(remote)} is an address with a user, a password or a query; write it "
            "without, and give the keys by environment variables, as AWS_ACCESS_KEY_ID"
        )
    (root / ".dvc").mkdir()
    core = {"no_scm": True, "analytics": False, "check_update": False, "remote": "shared"}
    core["site_cache_dir"] = str(root / ".dvc/site")  # a memory of the remote ends with the pod
    cache = {"type": "hardlink,reflink,copy"}
    shared = {"url": remote, "verify": True}  # what comes from it is hashed before use
    dvc.write_config(root / ".dvc/config", {"core": core, "cache": cache, 'remote "shared"': shared})


def add_remote(parser: argparse.ArgumentParser) -> None:
    """`--remote`, HYMUNET_DVC_REMOTE unless it is named; with neither the program ends before it does anything."""
    parser.add_argument(
        "--remote",
        type=_address,
        default=os.environ.get("HYMUNET_DVC_REMOTE", ""),
        help="the shared DVC remote's address; default: HYMUNET_DVC_REMOTE",
    )


def _address(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("no DVC remote: set HYMUNET_DVC_REMOTE, or name it with --remote")
    return text


@contextlib.contextmanager
def open_remote(empty: Path, remote: str) -> Iterator[Any]:
    """A DVC remote by its address."""
    configure(empty, remote)
    with Workspace(empty, remote).repo() as repo:
        yield dvc.remote(repo)


def read_lock(path: Path) -> dict[str, Any]:
    """Stage name -> its entry in a dvc.lock; an absent file is an empty lock."""
    if not path.exists():
        return {}
    return YAML(typ="safe", pure=True).load(path)["stages"]


def write_lock(path: Path, stages: dict[str, Any]) -> None:
    yaml = YAML()
    yaml.width = 4096
    yaml.dump({"schema": "2.0", "stages": dict(sorted(stages.items()))}, path)


def merge_locks(paths: list[Path]) -> dict[str, Any]:
    """One lock out of the branches of a pipeline; ValueError where two of them say different things about a stage."""
    merged: dict[str, Any] = {}
    for path in paths:
        if not path.exists():
            raise ValueError(f"{path}: the lock of the step before is missing")
        for name, entry in read_lock(path).items():
            if merged.setdefault(name, entry) != entry:
                raise ValueError(f"{path}: stage {name} differs from another input's; the inputs are of different runs")
    return merged


def inputs(repo: Any, stage: Any) -> list[str]:
    """The stage's dependencies that other stages make: everything else came with the image."""
    outs = dvc.output_paths(repo)
    paths = [dep.def_path for dep in dvc.file_dependencies(stage)]
    return [path for path in paths if any(path == out or path.startswith(f"{out}/") for out in outs)]


@dataclass(frozen=True)
class Computed:
    ran: bool  # false: DVC found the result in its run cache after all
    seconds: float
    pulled_bytes: int


def compute(workspace: Workspace, repo: Any, name: str, force: bool) -> Computed:
    """`dvc repro --single-item`, after its inputs were pulled and verified.

    Raises StageFailed with the command's own exit status.
    """
    stage, before = dvc.stage(repo, name), workspace.cached_bytes()
    try:
        if needed := inputs(repo, stage):
            dvc.pull(repo, needed)
    except dvc.PullFailed as error:
        raise StageFailed(name, STORE_FAILED, f"its inputs cannot be pulled: {error}") from error
    pulled, started = workspace.cached_bytes() - before, time.monotonic()
    try:
        ran = dvc.reproduce(repo, name, force)
    except dvc.CommandFailed as error:
        raise StageFailed(name, error.status, str(error)) from error
    return Computed(ran, time.monotonic() - started, pulled)
