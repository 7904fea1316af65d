"""One cell of a study in a pod: taken from what machines share, or computed and given to them.

A cell that is known costs two small files of its data. What trying again does not mend ends well and is said in the
verdict, so that the other cells go on and nobody tries it for hours.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hymunet.addresses import said
from hymunet.study import data, results, state
from hymunet.study.data import Places
from hymunet.study.plan import Cell, Plan
from hymunet.study.state import last_line
from hymunet.study.store import Store
from pipelines import dvc_compat as dvc
from pipelines.outputs import Outputs, numbers
from pipelines.part import Part
from pipelines.scratch import workplace
from pipelines.step import SOURCE, pass_on_termination
from pipelines.study_text import unpacked
from pipelines.verdicts import FINAL, for_good
from pipelines.workspace import STORE_FAILED, Workspace, add_remote

SMALL = ["data/prepared/prepare.json", "data/split/split.csv"]  # they name the images and the split
LARGE = ["data/prepared", "data/split"]


@dataclass(frozen=True)
class Verdict:
    """state: computed, restored, failed or skipped (its data are not there)."""

    cell: str
    state: str
    seconds: float = 0.0
    reason: str = ""


def shared(remote: str) -> str:
    """Where a DVC remote's machines share results of cells."""
    return f"{remote.rstrip('/')}/study"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m pipelines.study_cell", description=__doc__)
    parser.add_argument("--study", required=True, help="the study's text")
    parser.add_argument("--cell", required=True, help="its name: isic2018/unet/seed-0")
    parser.add_argument("--run", help="the run's id; without it, nothing is recorded")
    parser.add_argument("--executor-input", required=True, help="Kubeflow's inputs and outputs, JSON")
    add_remote(parser)
    args = parser.parse_args(argv)
    outputs = Outputs.parse(args.executor_input)
    told = json.loads(outputs.inputs("data")[0].read_text(encoding="utf-8"))
    with Part(args.remote, args.run, args.cell).recorded() as part:
        verdict, metrics = judged(args, told)
        part.state, part.reason = verdict.state, verdict.reason
    print(f"study: {verdict.cell} {verdict.state} in {verdict.seconds} s {verdict.reason}".rstrip(), flush=True)
    outputs.artifact("metrics", json.dumps(metrics, indent=1), **metrics)
    outputs.parameter("verdict", json.dumps(asdict(verdict)))
    outputs.save()
    return 0


def judged(args: argparse.Namespace, told: dict[str, Any]) -> tuple[Verdict, dict[str, float]]:
    """What became of the cell, and its scores. told: of the data. Raises CellFailed where another try may help."""
    if told["failed"]:
        return Verdict(args.cell, "skipped", reason=told["failed"]), {}
    started = time.monotonic()
    try:
        with workplace() as work:
            plan = unpacked(args.study, work / "study")
            cell = plan.find(args.cell)
            found, result = perform(plan, cell, told["locks"][cell.images], args.remote, work)
            why = "" if result else last_line(state.workplace(Places(work, {}), cell) / state.LOG)
            metrics = numbers(result.metrics()["test"]) if result else {}
    except (ValueError, OSError) as error:
        if not for_good(error):
            raise
        found, why, metrics = "failed", said(error), {}
    return Verdict(args.cell, found, round(time.monotonic() - started, 1), why), metrics


def perform(plan: Plan, cell: Cell, lock: str, remote: str, work: Path) -> tuple[str, results.Result | None]:
    """The cell's result, and whether it was restored or computed; failed and None where another try would not help.

    Raises CellFailed where it may.
    """
    project = Workspace(work / "project", remote)
    project.create(SOURCE, json.dumps(plan.content(cell.images)), [])
    project.lock.write_text(lock, encoding="utf-8")
    places = Places(work, {cell.images: project.root / "data"})
    store = Store(shared(remote))
    with project.repo() as repo:
        dvc.pull(repo, SMALL)
        data.make(plan, cell.images, places)
        wanted = state.expected(plan, cell, places.of(cell))
        if result := store.take(wanted, cell, plan.results(cell)):
            return "restored", result
        dvc.pull(repo, LARGE)
    code = computed(plan, cell, places)
    if code in FINAL:
        return "failed", None
    if code:
        raise CellFailed(cell, code)
    result = results.read(plan.results(cell))
    assert result is not None
    store.put(result)
    return "computed", result


def computed(plan: Plan, cell: Cell, places: Places) -> int:
    """`hymunet.study.cell` to its end; its exit code. Its checkpoints outlive the pod where the settings say where."""
    command = [sys.executable, "-m", "hymunet.study.cell", str(plan.folder), cell.name, "--work", str(places.work)]
    command += [f"--data={name}={folder}" for name, folder in places.given.items()]
    if checkpoints := os.environ.get("HYMUNET_CHECKPOINTS"):
        command += ["--checkpoints", checkpoints]
    log = state.workplace(places, cell) / state.LOG
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        log.open("wb") as file,
        subprocess.Popen(command, cwd=SOURCE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as running,
    ):
        assert running.stdout is not None
        for line in running.stdout:
            file.write(line)
            sys.stdout.buffer.write(line)
            sys.stdout.flush()
    return 128 - running.returncode if running.returncode < 0 else running.returncode


class CellFailed(Exception):
    def __init__(self, cell: Cell, status: int) -> None:
        super().__init__(f"{cell.name}: exit code {status}")
        self.status = status


if __name__ == "__main__":
    pass_on_termination()
    try:
        sys.exit(main())
    except (CellFailed, dvc.PullFailed, OSError) as error:
        print(f"study: {said(error)}", file=sys.stderr)
        sys.exit(getattr(error, "status", STORE_FAILED))
