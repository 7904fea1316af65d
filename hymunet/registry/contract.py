"""What a version promises of inputs and outputs, and whether it keeps that in the environment which it declares.

The promise is `contract.safetensors` beside the version: images of several sizes with the masks that the trained model
makes of them. It is held to it by running it, once before it is registered and once before it is promoted, in a process
that sees the version's code alone and is handed no secrets. The packages are those of its requirements.txt: this
environment's where they are the same, else a fresh environment's.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from hymunet.addresses import without_secrets
from hymunet.registry import contract_program

if TYPE_CHECKING:
    from hymunet.inference import Segmenter

PROMISE = "contract.safetensors"
SHAPES = {"one": (1, 64, 64), "several": (3, 50, 70), "tall": (1, 97, 33), "none": (0, 16, 16)}  # images, rows, columns
ROUNDING = 0.001  # of a promise's pixels: another processor rounds otherwise
SECONDS = 900.0  # for a run, or for making an environment
HANDED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TEMP", "SYSTEMROOT", "LD_LIBRARY_PATH", "OMP_NUM_THREADS")
INDEX = ("PIP_", "UV_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT")  # where packages come from


class NoEnvironment(ValueError):
    """The declared environment is not here and cannot be made here."""


def write(segmenter: "Segmenter", folder: Path) -> None:
    """Puts the promise of the trained model, on the processor, into a version's folder."""
    import numpy as np
    from safetensors.numpy import save_file

    from hymunet.data.acquire.synthetic import draw

    tensors = {}
    for name, (count, rows, columns) in SHAPES.items():
        drawn = [draw(number, max(rows, columns), 0)[0][:rows, :columns] for number in range(count)]
        tensors[f"{name}.images"] = np.stack(drawn) if drawn else np.empty((0, rows, columns, 3), np.uint8)
        tensors[f"{name}.masks"] = np.stack(segmenter.masks(drawn)) if drawn else np.empty((0, rows, columns), np.uint8)
    save_file(tensors, folder / PROMISE)


def broken(folder: Path, tolerance: float = ROUNDING) -> list[str]:
    """What a version, whose files all lie in `folder`, does not keep of its promise. Runs the version's code.

    Raises NoEnvironment where its requirements are not met here and cannot be installed.
    """
    found = _run(Path(sys.executable), folder, tolerance)
    if found["unmet"]:
        with tempfile.TemporaryDirectory() as temporary:
            python = fresh(folder, Path(temporary) / "environment", found["unmet"])
            found = _run(python, folder, tolerance)
    if found["unmet"]:
        raise NoEnvironment(f"the environment made from its requirements.txt lacks {'; '.join(found['unmet'])}")
    return found["problems"]


def fresh(folder: Path, target: Path, because: list[str]) -> Path:
    """A new environment with the version's requirements; returns its Python. because: what is another one here."""
    wanted = next((line.split()[1].rpartition(",")[0] for line in because if line.startswith("Python ")), "")
    python, needs = target / "bin/python", str(folder / "requirements.txt")
    if uv := shutil.which("uv"):
        steps = [
            [uv, "venv", "--quiet", "--python", wanted or sys.executable, str(target)],
            [uv, "pip", "install", "--quiet", "--python", str(python), "-r", needs],
        ]
    elif wanted:
        raise NoEnvironment(f"it declares Python {wanted}; run this with that one, or install uv, which finds it")
    else:
        steps = [
            [sys.executable, "-m", "venv", str(target)],
            [str(python), "-m", "pip", "install", "--quiet", "-r", needs],
        ]
    index = {key: value for key, value in os.environ.items() if key.upper().startswith(INDEX)}
    for step in steps:
        done = _finished(step, target.parent, _environment() | index)
        if done.returncode:
            reason = without_secrets(" ".join(done.stderr.split()))[-300:]
            raise NoEnvironment(f"{'; '.join(because)}; and its requirements cannot be installed: {reason}")
    return python


def _run(python: Path, folder: Path, tolerance: float) -> dict[str, list[str]]:
    with tempfile.TemporaryDirectory() as empty:
        program, promised = Path(empty) / "contract.py", Path(empty) / PROMISE
        shutil.copyfile(contract_program.__file__, program)
        shutil.copyfile(folder / PROMISE, promised)
        command = [str(python), "-I", "-B", str(program), str(folder), str(promised), str(tolerance)]
        done = _finished(command, Path(empty), _environment())
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
        return {"unmet": answer["unmet"], "problems": answer["problems"]}
    except (ValueError, LookupError, TypeError):
        last = (done.stderr.strip().splitlines() or ["no word"])[-1]
        return {"unmet": [], "problems": [f"its process ended with {done.returncode}: {last[:300]}"]}


def _finished(command: list[str], where: Path, environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(
            command, cwd=where, env=environment, capture_output=True, text=True, errors="replace", timeout=SECONDS
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, -1, "", f"not done after {SECONDS:.0f} seconds")


def _environment() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key in HANDED_ON}
    return kept | {"CUDA_VISIBLE_DEVICES": "", "MLFLOW_DISABLE_TELEMETRY": "true", "GIT_PYTHON_REFRESH": "quiet"}
