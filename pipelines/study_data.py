"""The data of a study's sets, once for all cells: the pipeline's own stages, restored where anyone has computed them.

Hands on one JSON: the lock of each set, or why there is none.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from hymunet.addresses import said
from hymunet.study.plan import Plan
from pipelines import dvc_compat as dvc
from pipelines import step
from pipelines.outputs import Outputs
from pipelines.scratch import workplace
from pipelines.study_text import unpacked
from pipelines.verdicts import FailedForGood, for_good
from pipelines.workspace import STORE_FAILED, StageFailed

STAGES = {
    "download": [],
    "prepare": [],
    "split": [],
    "validate": ["--report", "reports/validation/report.html", "--verdict", "reports/validation/verdict.json"],
}
REFUSED = "the data checks refused the data"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m pipelines.study_data", description=__doc__)
    parser.add_argument("--study", required=True, help="the study's text")
    parser.add_argument("--run", required=True, help="the run's id; each set's stages are recorded as RUN-SET")
    parser.add_argument("--executor-input", required=True, help="Kubeflow's inputs and outputs, JSON")
    args = parser.parse_args(argv)
    outputs = Outputs.parse(args.executor_input)
    locks: dict[str, str] = {}
    try:
        with workplace() as work:
            plan = unpacked(args.study, work / "study")
            failed = each_set(plan, args.run, work, locks)
    except (ValueError, OSError) as error:
        if not for_good(error):
            raise
        failed = said(error)
    if failed:
        print(f"study: {failed}", file=sys.stderr)
    outputs.artifact("data", json.dumps({"locks": locks, "failed": failed}, indent=1))
    outputs.save()
    return 0


def each_set(plan: Plan, run: str, work: Path, locks: dict[str, str]) -> str | None:
    """Puts each set's lock into `locks`, until one fails for good: then why."""
    for name in plan.study.sets:
        lock, failed = made(name, json.dumps(plan.content(name)), f"{run}-{name}", work / name)
        if failed:
            return f"{name}: {failed}"
        locks[name] = lock
    return None


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
    step.pass_on_termination()
    try:
        sys.exit(main())
    except (StageFailed, dvc.PullFailed, OSError) as error:
        print(f"study: {said(error)}", file=sys.stderr)
        sys.exit(getattr(error, "status", STORE_FAILED))
