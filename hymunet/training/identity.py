"""What determines a training, as one key: the same key, the same weights."""

import hashlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any

from hymunet import params

ROOT = Path(__file__).resolve().parents[1]
# The code that decides what a training computes. A change in it starts a new training, it never continues an old one.
CODE = (
    *("data/feed", "images.py", "losses.py", "metrics.py", "models", "ops"),
    *(
        "training/average.py",
        "training/learner.py",
        "training/loading.py",
        "training/state.py",
        "training/validation.py",
    ),
)
# Parameters that change when and where work is done, not its result.
IMMATERIAL = {"workers", "checkpoint_minutes", "example_every"}


def configuration(
    model_params: params.Model, train_params: params.Train, data_sha256: str, split_sha256: str
) -> dict[str, dict[str, Any] | str]:
    return {
        "model": model_params.model_dump(),
        "train": {key: value for key, value in train_params.model_dump().items() if key not in IMMATERIAL},
        "data_sha256": data_sha256,
        "split_sha256": split_sha256,
        "code_sha256": code_sha256(),
    }


def run_key(configuration: dict[str, Any]) -> str:
    """16 hex digits."""
    return hashlib.sha256(json.dumps(configuration, sort_keys=True).encode()).hexdigest()[:16]


def differences(ours: dict[str, Any], theirs: dict[str, Any], prefix: str = "") -> list[str]:
    """`train.learning_rate: 0.001 here, 0.01 there` for every value that differs."""
    found = []
    for key in sorted(ours.keys() | theirs.keys()):
        a, b = ours.get(key), theirs.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found += differences(a, b, f"{prefix}{key}.")
        elif a != b:
            found.append(f"{prefix}{key}: {a} here, {b} there")
    return found


def code_sha256() -> str:
    digest = hashlib.sha256()
    for entry in CODE:
        path = ROOT / entry
        files = [path] if path.is_file() else sorted(f for f in path.rglob("*") if f.suffix in (".py", ".cpp", ".h"))
        for file in files:
            digest.update(file.relative_to(ROOT).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


def git_commit() -> str | None:
    """The commit that is checked out, with `-dirty` when files differ from it; an image names its own; else None."""
    if named := os.environ.get("HYMUNET_GIT_COMMIT"):
        return named
    try:
        command = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=40", "--dirty", "--exclude", "*"]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
