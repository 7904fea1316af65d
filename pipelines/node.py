"""One machine of a training over several: the same stage in the same workspace on each, and the first keeps the result.

Kubeflow Trainer starts this in every pod of a TrainJob. The first machine runs the stage under DVC and pushes what it
made, as a single pod would; the others fetch the same inputs and take part in the computation alone.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from hymunet.addresses import said
from pipelines import dvc_compat as dvc
from pipelines import step
from pipelines.records import Run
from pipelines.scratch import scratch, workplace
from pipelines.study_data import step_input
from pipelines.verdicts import FailedForGood, exit_code
from pipelines.workspace import StageFailed, Workspace, add_remote, inputs, open_remote


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m pipelines.node", description=__doc__)
    parser.add_argument("--stage", required=True, help="name in dvc.yaml")
    parser.add_argument("--run", required=True, help="the pipeline run, whose lock names the inputs")
    parser.add_argument("--params", required=True, help="the whole content of params.yaml, as JSON or YAML")
    add_remote(parser)
    args = parser.parse_args(argv)
    with workplace() as work:
        return _in(work, args)


def _in(work: Path, args: argparse.Namespace) -> int:
    lock = work / "before/lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with scratch() as empty, open_remote(empty, args.remote) as store:
        Run(store, args.run).fetch_lock(lock)
    if int(os.environ.get("PET_NODE_RANK", "0")) == 0:
        return first(args, work, lock)
    return another(args, work, lock)


def first(args: argparse.Namespace, work: Path, lock: Path) -> int:
    """The bridge itself: restored or computed, pushed. 1 where trying again would not help."""
    told = step_input(work / "outputs", lock, [])
    argv = ["--stage", args.stage, "--run", args.run, "--params", args.params, "--remote", args.remote]
    step.main([*argv, "--workspace", str(work / "project"), "--executor-input", json.dumps(told)])
    return 1 if FailedForGood.read(work / "outputs/lock") else 0


def another(args: argparse.Namespace, work: Path, lock: Path) -> int:
    project = Workspace(work / "project", args.remote)
    project.create(step.SOURCE, args.params, [lock])
    with project.repo() as repo:
        stage = dvc.stage(repo, args.stage)
        if needed := inputs(repo, stage):
            dvc.pull(repo, needed)
        command = stage.cmd
    return subprocess.run(command, shell=True, cwd=project.root).returncode


if __name__ == "__main__":
    step.pass_on_termination()
    try:
        sys.exit(main())
    except (StageFailed, dvc.PullFailed, ValueError, OSError) as error:
        print(f"node: {said(error)}", file=sys.stderr)
        sys.exit(exit_code(error))
