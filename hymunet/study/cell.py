"""One cell, a process of its own: trains, scores the test images once, publishes what is kept; stopped, it goes on.

    python -m hymunet.study.cell STUDY NAME --work FOLDER

Exit codes: 0 the result is there; 75 and 130 stopped, the same command goes on; 73 another process has this cell.
"""

import argparse
import ctypes
import errno
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

from hymunet import closure, compiled_parts
from hymunet.addresses import without_secrets
from hymunet.commit import NAMED, git_commit
from hymunet.places import in_words
from hymunet.processors import limit_threads
from hymunet.study.data import Data, Places
from hymunet.study.plan import Cell, Plan, load

BUSY = 73
PATIENCE = 2.0
PARENT = "HYMUNET_STUDY_RUNNER"  # the process that waits for this one: when it dies, this one stops
AT_ONCE = "HYMUNET_STUDY_CELLS_A_DEVICE"  # how many cells the runner computes on this one's device at a time
PR_SET_PDEATHSIG = 1
TRAINED, STRETCHES = "trained.json", "stretches.json"
SCORING = ("evaluate", "scored")  # settings without a say in the weights


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("name")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--data", action="append", default=[], metavar="SET=FOLDER")
    parser.add_argument("--closed", action="store_true", help="leave the test images alone")
    parser.add_argument("--checkpoints", help="a folder or s3://bucket/prefix, in place of one below --work")
    arguments = parser.parse_args(argv)
    _stop_with_parent()
    limit_threads()
    plan = load(arguments.study)
    places = Places(arguments.work, dict(_pair(text) for text in arguments.data))
    _name_commit(plan)
    try:
        compiled_parts.require_current()
        return compute(plan, plan.find(arguments.name), places, arguments.closed, arguments.checkpoints)
    except ValueError as error:
        print(f"{arguments.name}: {without_secrets(str(error))}", file=sys.stderr)
    except OSError as error:
        if error.filename is None and error.errno in (errno.ENOSPC, errno.EDQUOT):  # the system names no file
            error = OSError(error.errno, error.strerror, str(arguments.work))
        print(f"{arguments.name}: {without_secrets(in_words(error))}", file=sys.stderr)
    return 1


def _name_commit(plan: Plan) -> None:
    """To this process, for all that it records: what the study published before is no change of the code."""
    if commit := git_commit(closure.ROOT, plan.folder / "results", plan.folder / "tables"):
        os.environ.setdefault(NAMED, commit)


def compute(plan: Plan, cell: Cell, places: Places, closed: bool, checkpoints: str | None = None) -> int:
    """closed: without the test images; a later call with them open scores the same weights. A study that is scored on
    the validation images has its scores all the same."""
    from hymunet.study import locks, results, size, state

    closed = plan.withholds(closed)
    work, data = state.workplace(places, cell), places.of(cell)
    with locks.lock(work, PATIENCE) as free:
        if not free:
            return BUSY
        if data.hashes() is None:
            raise ValueError(f"{data.prepared}, {data.split}: not there; `hymunet study run` makes them")
        wanted = state.expected(plan, cell, data)
        if (there := results.held(plan.results(cell), wanted)) and (there.tested or closed):
            return 0  # another run of the study was here first
        content = plan.checked(cell)
        counts = size.counts(content.model, content.prepare.image_size)  # first: a model that has none fails at once
        if code := _train(content, data, work, wanted, checkpoints or str(work / "checkpoints")):
            return code
        files = {"history.json": work / "training/history.json"}
        if not closed:
            from hymunet.evaluation.evaluate import evaluate

            output = work / "evaluation"
            evaluate(
                work / "model",
                data.prepared,
                data.split,
                work / "training",
                output,
                content.evaluate,
                plan.study.scored,
            )
            files |= {name: output / name for name in ("metrics.json", "per_image.csv")}
        results.publish(plan.results(cell), {**_record(cell, content, data, work, wanted), **counts}, files)
        shutil.rmtree(work / "checkpoints", ignore_errors=True)
    return 0


def _train(content: Any, data: Data, work: Path, wanted: dict[str, Any], checkpoints: str) -> int:
    """The weights into `work/model`, unless those there are of the same settings, data and code."""
    from hymunet import atomic, evidence
    from hymunet.training import trainer
    from hymunet.training.tracking import gpus

    parts = {
        "settings": {key: value for key, value in wanted["settings"].items() if key not in SCORING},
        "made_from": {key: value for key, value in wanted["made_from"].items() if key != "scoring_code"},
    }
    marker, journal = work / TRAINED, work / STRETCHES
    before, known = (evidence.read(file, f"remove {file}") if file.is_file() else {} for file in (marker, journal))
    stretches = known.get("stretches", []) if known.get("parts") == parts else []
    if before.get("parts") == parts and stretches and (work / "model/model.json").is_file():
        return 0
    paths = trainer.Paths(
        prepared=data.prepared,
        split=data.split,
        model=work / "model",
        reports=work / "training",
        checkpoints=checkpoints,
        journal=work / "journal",
    )
    start, meter = time.monotonic(), gpus.joules()
    code = trainer.train(content.model, content.train, paths)
    seconds, read = time.monotonic() - start, gpus.joules()
    used = None if meter is None or read is None else read - meter
    stretches = [*stretches, _stretch(content, seconds, used)]
    atomic.write(journal, json.dumps({"parts": parts, "stretches": stretches}) + "\n")
    if code == 0:
        atomic.write(marker, json.dumps({"parts": parts}) + "\n")
    return code


def _stretch(content: Any, seconds: float, joules: float | None) -> dict[str, Any]:
    """What the process knows that trained; another one may score the weights, on another machine.

    joules: of the GPUs meanwhile, None where they have no meter.
    """
    import torch

    from hymunet.precision import autocast_dtype
    from hymunet.training import device

    used = device.choose(0)
    return {
        "seconds": round(seconds, 1),
        "joules": None if joules is None else round(joules),
        "machine": device.describe(used),
        "torch": torch.__version__,
        "precision": "float32" if autocast_dtype(content.train.precision, used) is None else "bf16",
        "cells_on_the_device": int(os.environ.get(AT_ONCE, "1")),
        "peak_memory_bytes": device.peak_memory_bytes(used),
    }


def _record(cell: Cell, content: Any, data: Data, work: Path, wanted: dict[str, Any]) -> dict[str, Any]:
    """What cell.json says, but for the files' hashes."""
    from hymunet import evidence
    from hymunet.data.feed.dataset import Prepared
    from hymunet.inference import Segmenter
    from hymunet.study import size
    from hymunet.training import device

    info = evidence.read(work / "model/model.json", "train the cell again")
    stretches = evidence.read(work / STRETCHES, "train the cell again")["stretches"]
    seconds = sum(one["seconds"] for one in stretches)
    used = [one.get("joules") for one in stretches]
    model = Segmenter.load(work / "model", device=device.choose(0)).model
    images = content.train.epochs * len(Prepared(data.prepared).split(data.split)["train"])
    return {
        "cell": cell.described,
        **wanted,
        "weights_sha256": info["weights_sha256"],
        "run_key": info["run_key"],
        "epoch": info["epoch"],
        "validation_dice": info["validation_dice"],
        "commit": git_commit(closure.ROOT) or "unknown",
        **{name: ", ".join(sorted({one[name] for one in stretches})) for name in ("machine", "torch", "precision")},
        "training_seconds": round(seconds, 1),
        "training_joules": None if None in used else sum(used),
        "training_stretches": len(stretches),
        **{name: max(one[name] for one in stretches) for name in ("cells_on_the_device", "peak_memory_bytes")},
        "images_per_second": {
            "trained": round(images / max(seconds, 0.1), 1),
            "inferred": size.inference_rates(model, content.prepare.image_size),
        },
    }


def _pair(text: str) -> tuple[str, Path]:
    name, _, folder = text.partition("=")
    return name, Path(folder)


def _stop_with_parent() -> None:
    """Asks the system for SIGTERM when whoever waits for this process is killed: it saves, and the study goes on
    later."""
    if parent := os.environ.get(PARENT):
        if prctl := getattr(ctypes.CDLL(None), "prctl", None):  # Linux
            prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != int(parent):
            sys.exit(f"the process that started this cell ({parent}) has ended")


if __name__ == "__main__":
    sys.exit(main())
