"""The data of a study's sets, once for all cells: the pipeline's own stages, restored where anyone has computed them.

Hands on one JSON: the lock of each set, or why there is none.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from pipelines import step
from pipelines.outputs import Outputs
from pipelines.study_text import unpacked
from pipelines.verdicts import FailedForGood
from pipelines.workspace import StageFailed

STAGES = {
    "download": [],
    "prepare": [],
    "split": [],
    "validate": ["--report", "reports/validation/report.html", "--verdict", "reports/validation/verdict.json"],
}
WORKSPACE = os.environ.get("HYMUNET_WORKSPACE")
REFUSED = "the data checks refused the data"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m pipelines.study_data", description=__doc__)
    parser.add_argument("--study", required=True, help="the study's text")
    parser.add_argument("--run", required=True, help="the run's id; each set's stages are recorded as RUN-SET")
    parser.add_argument("--executor-input", required=True, help="Kubeflow's inputs and outputs, JSON")
    args = parser.parse_args(argv)
    outputs = Outputs.parse(args.executor_input)
    work = Path(WORKSPACE or tempfile.mkdtemp(prefix="hymunet-"))
    plan = unpacked(args.study, work / "study")
    told: dict[str, Any] = {"locks": {}, "failed": None}
    for name in plan.study.sets:
        lock, failed = made(name, json.dumps(plan.content(name)), f"{args.run}-{name}", work / name)
        if failed:
            told["failed"] = f"{name}: {failed}"
            print(f"study: {told['failed']}", file=sys.stderr)
            break
        told["locks"][name] = lock
    outputs.artifact("data", json.dumps(told, indent=1))
    outputs.save()
    return 0


def made(name: str, params: str, run: str, work: Path) -> tuple[str, str | None]:
    """A set's lock after the last stage, and why not. Raises StageFailed where another try may help."""
    before: Path | None = None
    for stage, options in STAGES.items():
        place = work / "outputs" / stage
        project = work / "project"
        told = step_input(place, before, [*options])
        argv = ["--stage", stage, "--run", run, "--params", params, "--workspace", str(project)]
        step.main([*argv, "--executor-input", json.dumps(told), *options])
        shutil.rmtree(project)
        before = place / "lock"
        if failed := FailedForGood.read(before):
            return "", str(failed)
        if options and (place / "passed").read_text(encoding="utf-8") == "false":
            return "", f"{REFUSED}: see stage validate of run {run}"
    assert before is not None
    return before.read_text(encoding="utf-8"), None


def step_input(place: Path, before: Path | None, options: list[str]) -> dict[str, Any]:
    """What a step is told of its inputs and outputs, in this container alone."""
    names = ["lock", "metrics", *(["report"] if "--report" in options else [])]
    parameters = {"passed": {"outputFile": str(place / "passed")}} if "--verdict" in options else {}
    inputs = {"lock_before": {"artifacts": [{"uri": str(before)}]}} if before else {}
    return {
        "inputs": {"artifacts": inputs},
        "outputs": {
            "artifacts": {name: {"artifacts": [{"name": name, "uri": str(place / name)}]} for name in names},
            "parameters": parameters,
            "outputFile": str(place / "executor_output.json"),
        },
    }


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (StageFailed, ValueError, OSError) as error:
        print(f"study: {error}", file=sys.stderr)
        sys.exit(getattr(error, "status", 1))
