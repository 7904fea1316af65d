"""What may go because it can be had again, and what it frees. Nothing else is looked at, and nothing of a user's own.

Freed are: checkpoints of a training that is finished and whose model is kept (in artifacts/model, or in DVC's cache);
an archive that lies in data/raw as well; code that was compiled for this machine; what was put aside of MLflow's
SQLite file. Checkpoints of other trainings stay: they are the only copy of work.
"""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hymunet.mlflow_store.address import tracking_uri
from hymunet.mlflow_store.database import ASIDE, path_of

MODEL = Path("artifacts/model/model.json")
CACHE = Path(".dvc/cache/files/md5")
DESCRIPTION_BYTES = 100_000  # no model.json is larger


@dataclass(frozen=True)
class Item:
    path: Path
    reason: str
    bytes: int = 0


def freed(root: Path, checkpoints: Path | None, compiled: list[Path]) -> tuple[list[Item], list[Item]]:
    """What may go, with what it frees, and which checkpoints stay and why.

    checkpoints: their folder, None where they are in a store. compiled: folders of compiled code.
    """
    going, staying = _checkpoints(checkpoints, _kept_models(root)) if checkpoints else ([], [])
    going += _twice(root / "data/archives", root / "data/raw")
    database = path_of(tracking_uri())
    put_aside = [database.with_name(f"{database.name}.{end}") for end in ASIDE] if database else []
    going += [Item(path, "put aside of MLflow's database") for path in put_aside if path.exists()]
    going += [Item(path, "compiled code, made again when it is needed") for path in compiled if path.is_dir()]
    return [Item(item.path, item.reason, _size(item.path)) for item in going], staying


def compiled_code() -> list[Path]:
    """As `hymunet.training.device` has it, for whom torch need not be imported."""
    named = os.environ.get("HYMUNET_COMPILE_CACHE", "")
    if not named or named.startswith("s3://"):
        named = os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "hymunet")
    return [Path(named).expanduser() / name for name in ("inductor", "triton")]


def remove(item: Item) -> None:
    """Raises OSError that names the item: of a file deep in a folder the system says the last name alone."""
    try:
        shutil.rmtree(item.path) if item.path.is_dir() else item.path.unlink()
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(item.path)) from None


def _checkpoints(folder: Path, models: set[str]) -> tuple[list[Item], list[Item]]:
    going, staying = [], []
    for run in sorted(path for path in folder.glob("*") if path.is_dir() and list(path.glob("*.safetensors"))):
        epochs, of = _progress(run)
        if epochs < of or not of:
            staying.append(Item(run, f"{epochs} of {of} epochs; goes on from here" if of else "cannot be read"))
        elif run.name not in models:
            staying.append(Item(run, "finished, and its model is neither in artifacts/model nor in DVC's cache"))
        else:
            going.append(Item(run, "checkpoints of a finished training, whose model is kept"))
    return going, staying


def _progress(run: Path) -> tuple[int, int]:
    """Epochs done and wanted, as the newest manifest says; (0, 0) where none can be read."""
    for path in sorted(run.glob("*.json"), reverse=True):
        try:
            manifest: dict[str, Any] = json.loads(json.loads(path.read_text(encoding="utf-8"))["manifest"])
            return len(manifest["state"]["history"]), manifest["configuration"]["train"]["epochs"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return 0, 0


def _kept_models(root: Path) -> set[str]:
    """The run keys of models whose description is here or in DVC's cache."""
    found = (_run_key(path) for path in [root / MODEL, *_files(root / CACHE)])
    return {key for key in found if key}


def _run_key(path: Path) -> str | None:
    try:
        if path.stat().st_size > DESCRIPTION_BYTES:
            return None
        content = json.loads(path.read_bytes())
        return content.get("run_key") if "weights_sha256" in content else None
    except (OSError, ValueError, AttributeError, TypeError):
        return None


def _twice(store: Path, raw: Path) -> list[Item]:
    """Archives that are files of their own in both folders, byte for byte the same."""
    from hymunet.data.acquire.transfer import file_sha256

    items = []
    for path in sorted(path for path in store.glob("*.zip") if path.is_file()):
        other = raw / path.name
        alike = other.is_file() and not other.samefile(path) and other.stat().st_size == path.stat().st_size
        if alike and file_sha256(other) == file_sha256(path):
            items.append(Item(path, f"the same as {other}; download fetches it again where it is wanted"))
    return items


def _files(folder: Path) -> Iterator[Path]:
    for path, _, names in os.walk(folder):
        yield from (Path(path) / name for name in names)


def _size(path: Path) -> int:
    """Bytes that go with it: not those of files that have another name elsewhere."""
    files = _files(path) if path.is_dir() else iter([path])
    statuses = (file.lstat() for file in files)
    return sum(status.st_size for status in statuses if status.st_nlink == 1)
