"""dvc.lock beside a model: whether it says how this model came about, and its hash."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NONE, OTHER = "none", "of another model"  # in place of a hash


def lock_hash(path: Path, model: Path) -> str:
    """SHA-256 over what dvc.lock says of every stage but `register`, whose own entry is written after it has run.

    NONE where there is no such file; OTHER where no stage made the folder `model` as it is.
    """
    from ruamel.yaml import YAML

    if not path.is_file():
        return NONE
    stages = YAML(typ="safe", pure=True).load(path).get("stages", {})
    stages.pop("register", None)
    if tree_md5(model) not in set(_made(stages)):
        return OTHER
    return hashlib.sha256(json.dumps(stages, sort_keys=True, default=str).encode()).hexdigest()


def _made(stages: dict[str, Any]) -> Iterator[str]:
    for stage in stages.values():
        yield from (out["md5"] for out in stage.get("outs", []) if "md5" in out)


def tree_md5(folder: Path) -> str:
    """A folder's hash as DVC 3 writes it: MD5 over the MD5 and the relative path of each file, sorted by path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    listed = [{"md5": _md5(path.read_bytes()), "relpath": path.relative_to(folder).as_posix()} for path in files]
    listed.sort(key=lambda entry: entry["relpath"])
    return _md5(json.dumps(listed, sort_keys=True).encode()) + ".dir"


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
