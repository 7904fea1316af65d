"""Runs one stage of dvc.yaml in a container: the bridge between Kubeflow, which schedules, and DVC, which remembers.

A stage whose result is in the shared remote already is not run, and its inputs are not even fetched. What is
computed is pushed before the step ends. Kubeflow is handed the lock, numbers, a report and a pointer to the model;
data goes through the remote alone.
"""

import argparse
import contextlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from hymunet import yaml_text
from hymunet.addresses import said, without_secrets
from pipelines import dvc_compat as dvc
from pipelines import runcache
from pipelines.outputs import Outputs, numbers
from pipelines.records import BEGUN, Record, Run
from pipelines.scratch import end_at_once, workplace
from pipelines.verdicts import FINAL, FailedForGood, exit_code, for_good, hand_on, stopped_before
from pipelines.workspace import STORE_FAILED, StageFailed, Workspace, add_remote, compute, read_lock, write_lock

SOURCE = Path(__file__).resolve().parents[1]


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m pipelines.step", description=__doc__)
    parser.add_argument("--stage", required=True, help="name in dvc.yaml")
    parser.add_argument("--run", required=True, help="the run's id: names its records in the remote")
    parser.add_argument("--params", required=True, help="the whole content of params.yaml, as JSON or YAML")
    parser.add_argument("--executor-input", required=True, help="Kubeflow's inputs and outputs, JSON")
    parser.add_argument("--always", action="store_true", help="run even if cached: the stage acts on the outside world")
    parser.add_argument("--metrics", help="project file whose numbers become Kubeflow metrics")
    parser.add_argument("--report", help="project file that becomes the HTML report")
    parser.add_argument("--model", help="project folder that becomes the model pointer")
    parser.add_argument("--verdict", help="project file written by a stage that may say no: then that is an output")
    parser.add_argument("--source", type=Path, default=SOURCE, help="the project's files")
    add_remote(parser)
    parser.add_argument(
        "--workspace",
        type=Path,
        help="a folder that is empty or of an earlier step, and stays; default: HYMUNET_WORKSPACE, else a new one",
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None, performs: "type[Step] | None" = None) -> int:
    """performs: how the stage's result is come by, in place of Step's own way."""
    started = time.monotonic()
    args = arguments(argv)
    outputs = Outputs.parse(args.executor_input)
    if stopped_before(args.stage, outputs):
        return 0
    with workplace(args.workspace) as place:
        return _main(args, outputs, Workspace(place, args.remote), performs or Step, started)


def _main(
    args: argparse.Namespace, outputs: Outputs, workspace: Workspace, performs: "type[Step]", started: float
) -> int:
    workspace.create(args.source, args.params, outputs.inputs("lock"))
    with workspace.repo() as repo:
        remote = dvc.remote(repo)  # once: each has connections of its own
        run = Run(remote, args.run)
        step = performs(args, workspace, repo, remote)
        try:
            require_writable(args, lambda: run.write(step.record(BEGUN, started)))
            yaml_text.read(args.params, "params: ")  # what DVC makes of one that is wrong is no line
            step.perform()
            write_lock(workspace.lock, read_lock(workspace.lock))  # one order of keys, however the stages came to be
            step.publish(outputs)
            run.write_lock(workspace.lock.read_text(encoding="utf-8"))
        except Exception as failure:
            with contextlib.suppress(Exception):  # where the store is what failed, the log alone tells
                run.write(step.record("failed", started, said(failure), getattr(failure, "status", 0)))
            if not for_good(failure):
                raise
            hand_on(FailedForGood.of(args.stage, failure), workspace.lock, outputs)
            return 0
        record = step.record(step.state, started)
        run.write(record)
        metrics = {f"step.{name}": value for name, value in numbers(record.__dict__).items()}
        outputs.artifact("metrics", json.dumps(step.metrics | metrics, indent=1), **step.metrics, **metrics)
        outputs.save()
    print(
        f"step: {args.stage} {step.state} in {record.seconds:.1f} s, {record.pulled_bytes:,} bytes pulled", flush=True
    )
    return 0


def require_writable(args: argparse.Namespace, write: Callable[[], None]) -> None:
    """Writes the first record. StageFailed where that cannot be: no hour is spent on what cannot be kept."""
    try:
        write()
    except Exception as error:  # DVC's, the store's client's
        reason = f"{type(error).__name__}: {said(error)}"
        remedy = "correct dvc_remote and the store's address in the settings, or the keys in the secret"
        problem = f"the remote {args.remote} cannot be written, and nothing was run ({reason}); {remedy}"
        raise StageFailed(args.stage, 1 if for_good(error) else STORE_FAILED, problem) from error


class Step:
    """One stage in one workspace: restored or computed, then made known."""

    def __init__(self, args: argparse.Namespace, workspace: Workspace, repo: Any, remote: Any) -> None:
        self.args, self.workspace, self.repo, self.remote = args, workspace, repo, remote
        self.upstream = read_lock(workspace.lock)
        self.state = "failed"
        self.command_seconds, self.pulled, self.made = 0.0, 0, 0
        self.metrics: dict[str, float] = {}

    def perform(self) -> None:
        name = self.args.stage
        entry = None if self.args.always else runcache.find(self.repo, self.remote, name, self.upstream)
        if entry is not None:
            write_lock(self.workspace.lock, self.upstream | {name: entry})
            self.state = "restored"
            print(f"step: {name} was computed before with these inputs, nothing to run", flush=True)
            return
        try:
            done = compute(self.workspace, self.repo, name, self.args.always)
        except StageFailed as failure:
            if not self.was_rejected(failure):
                raise
            self.state = "rejected"
            return
        self.command_seconds, self.pulled = done.seconds, done.pulled_bytes
        self.made = self.workspace.cached_bytes() - done.pulled_bytes
        self.state = "computed" if done.ran else "restored"
        dvc.push(self.repo, self.remote, name)

    def was_rejected(self, failure: StageFailed) -> bool:
        """A stage that may say no has said so and written why: that is a result, and an error only of the data."""
        told = self.args.verdict and (self.workspace.root / self.args.verdict).exists()
        return bool(told) and failure.status in FINAL

    def publish(self, outputs: Outputs) -> None:
        """The lock, and whichever of metrics, report, model and verdict the step was asked for."""
        shown = [path for path in (self.args.metrics, self.args.report, self.args.verdict) if path]
        if missing := [path for path in shown if not (self.workspace.root / path).exists()]:
            dvc.pull(self.repo, missing)
        outputs.artifact("lock", self.workspace.lock.read_bytes(), stage=self.args.stage, state=self.state)
        if self.args.metrics:
            self.metrics = numbers(json.loads((self.workspace.root / self.args.metrics).read_text(encoding="utf-8")))
        if self.args.report:
            outputs.artifact("report", (self.workspace.root / self.args.report).read_bytes())
        if self.args.model:
            pointer = self._pointer(self.args.model)
            outputs.artifact("model", json.dumps(pointer, indent=1), **pointer)
        if self.args.verdict:
            outputs.parameter("passed", "false" if self.state == "rejected" else "true")

    def _pointer(self, path: str) -> dict[str, str]:
        """Where the model is and what it is: enough to fetch it by content, from anywhere."""
        outs = read_lock(self.workspace.lock)[self.args.stage]["outs"]
        digest = next(out["md5"] for out in outs if out["path"] == path)
        return {"remote": self.workspace.remote, "path": path, "md5": digest, "run": self.args.run}

    def record(self, state: str, started: float, reason: str = "", status: int = 0) -> Record:
        return Record(
            stage=self.args.stage,
            state=state,
            seconds=round(time.monotonic() - started, 3),
            command_seconds=round(self.command_seconds, 3),
            pulled_bytes=self.pulled,
            made_bytes=self.made,
            commit=os.environ.get("HYMUNET_GIT_COMMIT", "unknown"),
            reason=reason,
            status=status,
        )


def pass_on_termination() -> None:
    """SIGTERM goes to whatever the stage runs, so that training can save; this process then waits for it. Where nothing
    runs there is nothing to wait for, but perhaps a store that does not answer: it ends at once.
    """
    if os.getpgrp() != os.getpid():
        os.setpgrp()

    def forward(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)
        if runs_something():
            os.killpg(0, number)
        else:
            end_at_once(number)

    signal.signal(signal.SIGTERM, forward)


def runs_something() -> bool:
    """Whether this process has a child."""
    return any(tasks.read_text(encoding="utf-8") for tasks in Path("/proc/self/task").glob("*/children"))


if __name__ == "__main__":
    pass_on_termination()
    try:
        sys.exit(main())
    except Exception as error:
        if not isinstance(error, StageFailed | ValueError | OSError):
            print(without_secrets(traceback.format_exc()), file=sys.stderr)
        print(f"step: {said(error)}", file=sys.stderr)
        sys.exit(exit_code(error))
