"""What determines a training, as one key: the same key, the same weights."""

import hashlib
import importlib.util
import json
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hymunet import closure
from hymunet.models import catalogue

if TYPE_CHECKING:
    from hymunet.training.learner import Learner

HASH = 8  # digits of one in a message
# Parameters that change when and where work is done, not its result; and `precision`, which counts as what it came to.
IMMATERIAL = {"workers", "checkpoint_minutes", "example_every", "precision"}
# Imported by the code that computes, without a say in what comes out: how parameters are read, models found by name and
# compilers looked for, how things reach the disk.
SILENT = {
    *("hymunet/__init__.py", "hymunet/atomic.py", "hymunet/params.py", "hymunet/section.py"),
    *("hymunet/models/__init__.py", "hymunet/models/catalogue.py", "hymunet/models/model_folder.py"),
    *(
        "hymunet/ops/compilers.py",
        "hymunet/training/checkpoint.py",
        "hymunet/training/checkpoint_store.py",
        "hymunet/training/identity.py",
    ),
}


def configuration(learner: "Learner", data_sha256: str, split_sha256: str) -> dict[str, Any]:
    """Whatever decides the result: parameters, what they came to on this machine, data and code."""
    train = learner.train_params.model_dump()
    return {
        "model": learner.model_params.model_dump(),
        "train": {key: value for key, value in train.items() if key not in IMMATERIAL},
        "facts": facts(learner),
        "data_sha256": data_sha256,
        "split_sha256": split_sha256,
        "code_sha256": code_sha256(learner.model_params.name),
    }


def facts(learner: "Learner") -> dict[str, Any]:
    """What the parameters leave open and the machine decides.

    The number of ranks is none where batch norm is synchronised: the training is the same up to rounding then.
    """
    import torch

    from hymunet.models.protocols import scans
    from hymunet.ops.selective_scan import choose_backend

    kernels = {
        choose_backend(scan.backend, learner.device.type, learner.dtype or torch.float32, scan.states)
        for scan in scans(learner.model)
    }
    return {
        "device": learner.device.type,
        "precision": "float32" if learner.dtype is None else "bf16",
        "ranks": "any" if learner.train_params.sync_batch_norm else learner.ranks.count,
        "scan": " ".join(sorted(kernels)) or None,
        "torch": torch.__version__,
        "augmentation": "device" if learner.augments_on_device else _augmentation(),
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
            short = HASH if key.endswith("_sha256") else None
            found.append(f"{prefix}{key}: {str(a)[:short]} here, {str(b)[:short]} there")
    return found


def _augmentation() -> str:
    """The library that turns and colours the images in loader processes, and the one that it calls."""
    import cv2

    return f"albumentations {version('albumentations')}, OpenCV {cv2.__version__}"


def code_files(model: str, root: Path = closure.ROOT) -> list[str]:
    """The import closure of the training's arithmetic and of one model."""
    declared = catalogue.module(model)
    own = [declared] if declared.startswith("hymunet.") else []
    return closure.files("hymunet.training.learner", *own, without=SILENT, root=root)


def code_sha256(model: str, root: Path = closure.ROOT) -> str:
    """A change in this code starts a new training; comments, docstrings and other models are not part of it."""
    ours = closure.sha256(code_files(model, root), root)
    declared = catalogue.module(model)
    if declared.startswith("hymunet."):
        return ours
    return hashlib.sha256(f"{ours} {_foreign_sha256(declared, root)}".encode()).hexdigest()


def _foreign_sha256(module: str, ours: Path) -> str:
    """Of a model in another package: that package's files, what they import of ours, and all shared layers."""
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        raise ValueError(f"model module {module}: its source is not found")
    depth = module.count(".") + (Path(found.origin).name == "__init__.py")
    root, package = Path(found.origin).parents[depth], module.split(".")[0]
    files = closure.files(module, root=root, packages=[package])
    shared = [path.relative_to(ours) for path in (ours / "hymunet/models/layers").glob("*.py")]
    taken = closure.files(*shared, *closure.named_from_outside(files, root, ours), without=SILENT, root=ours)
    return closure.sha256(files, root) + closure.sha256(taken, ours)
