"""Holds a version's folder to its contract. Run as a file of its own, which sees no code but the version's.

It prints one line of JSON: `unmet`, the requirements that this environment does not meet (then nothing was run), and
`problems`, what the version does not keep. What it reads is pixels and text; nothing is unpickled.
"""

import json
import os
import sys
from importlib import metadata
from pathlib import Path
from typing import Any


def refused() -> dict[str, Any]:
    """What the version must not take for photographs."""
    import numpy

    return {
        "fractions of 0 to 1": numpy.linspace(0, 1, 192).reshape(1, 8, 8, 3),
        "fractions cut off to whole numbers": numpy.ones((1, 8, 8, 3), numpy.uint8),
        "images with four channels": numpy.full((1, 8, 8, 4), 99, numpy.uint8),
        "grey images": numpy.full((1, 8, 8), 99, numpy.uint8),
        "numbers of 16 bits": numpy.full((1, 8, 8, 3), 9999, numpy.uint16),
    }


def unmet(folder: Path) -> list[str]:
    """Lines `name==version` of requirements.txt, and the Python, that are another one here."""
    found = []
    for line in (folder / "requirements.txt").read_text(encoding="utf-8").split():
        name, pinned, wanted = line.partition("==")
        if not pinned:
            continue
        try:
            here = metadata.version(name).partition("+")[0]
        except metadata.PackageNotFoundError:
            here = "none"
        if here != wanted:
            found.append(f"{line}, here {here}")
    python = next(
        line for line in (folder / "python_env.yaml").read_text(encoding="utf-8").splitlines() if "python:" in line
    )
    declared, own = ".".join(python.partition(":")[2].strip().split(".")[:2]), ".".join(map(str, sys.version_info[:2]))
    return found if declared == own else [*found, f"Python {declared}, here {own}"]


def broken(folder: Path, promised: Path, tolerance: float) -> list[str]:
    """tolerance: share of a promise's pixels that may fall on the threshold's other side."""
    import mlflow
    from safetensors.numpy import load_file

    model = mlflow.pyfunc.load_model(str(folder), suppress_warnings=True)  # of requirements, which `unmet` has compared
    import hymunet

    problems = []
    if not str(hymunet.__file__).startswith(str(folder)):
        problems.append(f"it runs code of {hymunet.__file__}, not its own")
    tensors = load_file(promised)
    for name in sorted(key.partition(".")[0] for key in tensors if key.endswith(".images")):
        problems += _other(name, model.predict(tensors[f"{name}.images"]), tensors[f"{name}.masks"], tolerance)
    for name, images in refused().items():
        try:
            model.predict(images)
        except Exception:  # whoever refuses it, MLflow by the signature or the version itself
            continue
        problems.append(f"{name} are not refused")
    return problems


def _other(name: str, masks: Any, expected: Any, tolerance: float) -> list[str]:
    shape, kind = getattr(masks, "shape", None), str(getattr(masks, "dtype", type(masks).__name__))
    if shape != expected.shape or kind != "uint8":
        return [f"{name}: masks are {kind} {shape}, promised are uint8 {expected.shape}"]
    if masks.size and masks.max() > 1:
        return [f"{name}: masks hold {masks.max()}, promised are 0 and 1"]
    share = float((masks != expected).mean()) if masks.size else 0.0
    return [f"{name}: {share:.2%} of the pixels are others than promised"] if share > tolerance else []


def main(folder: str, promised: str, tolerance: str) -> None:
    place = Path(folder).resolve()
    found: dict[str, list[str]] = {"unmet": unmet(place), "problems": []}
    if not found["unmet"]:
        try:
            found["problems"] = broken(place, Path(promised), float(tolerance))
        except Exception as error:
            found["problems"] = [f"it does not load: {type(error).__name__}: {' '.join(str(error).split())[:300]}"]
    sys.stdout.flush()
    os.write(1, (json.dumps(found) + "\n").encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
