"""The step `train` on several machines: looks the result up, else has a TrainJob compute it, and waits.

This pod computes nothing. It starts the TrainJob, or finds the one that an earlier try of this step began, relays its
state and the first machine's log, and takes the result from the shared remote. A TrainJob that failed is removed, and
the next try's goes on from its checkpoint.
"""

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from components.needs import Needs
from hymunet.addresses import said
from pipelines import dvc_compat as dvc
from pipelines import runcache, step, trainjob
from pipelines.records import Run
from pipelines.scratch import end_on_termination
from pipelines.settings import Settings
from pipelines.verdicts import FINAL, exit_code
from pipelines.workspace import StageFailed, write_lock

SETTINGS, NEEDS = "HYMUNET_SETTINGS", "HYMUNET_NEEDS"  # where the machines are, and what is asked of each, as JSON
PAUSE = 15.0
AGAIN = 75  # try again: it goes on
COMPLETE, FAILED = "Complete", "Failed"


class OverNodes(step.Step):
    """The bridge's step, its computation left to a TrainJob."""

    def perform(self) -> None:
        name = self.args.stage
        entry = runcache.find(self.repo, self.remote, name, self.upstream)
        self.state = "restored"
        if entry is None:
            started = time.monotonic()
            self._compute()
            self.command_seconds, self.state = time.monotonic() - started, "computed"
            entry = runcache.find(self.repo, self.remote, name, self.upstream)
        if entry is None:
            raise StageFailed(name, AGAIN, "the machines ended, and their result is not in the remote")
        write_lock(self.workspace.lock, self.upstream | {name: entry})

    def _compute(self) -> None:
        settings = Settings.model_validate_json(os.environ[SETTINGS])
        needs = Needs(**json.loads(os.environ[NEEDS]))
        command = ["python", "-m", "pipelines.node", "--stage", self.args.stage]
        command += ["--run", self.args.run, "--params", self.args.params]
        name, client = trainjob.name_of(self.args.run, self.args.stage), trainjob.client()

        def start() -> None:
            client.train(
                runtime=settings.accelerator.runtime if settings.accelerator else None,
                trainer=trainjob.trainer(settings, needs),
                options=trainjob.options(settings, needs, name, command),
            )

        if finished(client, name, start):
            return
        records = {one.stage: one for one in Run(self.remote, self.args.run).records()}
        record = records.get(self.args.stage)
        if record and record.state == "failed" and record.status in FINAL:
            raise StageFailed(self.args.stage, record.status, record.reason)
        raise StageFailed(self.args.stage, AGAIN, f"TrainJob {name} failed; the next try goes on from its checkpoint")


def finished(client: Any, name: str, start: Callable[[], Any], pause: float = PAUSE) -> bool:
    """Waits for the TrainJob, or starts it where there is none; False, and it is removed, where it failed."""
    status = _status(client, name)
    if status == FAILED:  # of an earlier try that did not come to remove it
        client.delete_job(name)
        status = None
    if status is None:
        start()
        print(f"train: TrainJob {name} is started", flush=True)
    else:
        print(f"train: TrainJob {name} is there already: {status}", flush=True)
    told, shown = "", Counter[str]()
    while True:
        status = _status(client, name)
        shown = _relay(client, name, shown)
        if status != told:
            print(f"train: TrainJob {name}: {status}", flush=True)
            told = status or ""
        if status == COMPLETE:
            return True
        if status == FAILED:
            client.delete_job(name)
            return False
        if status is None:
            print(f"train: TrainJob {name} was removed by somebody", flush=True)
            return False
        time.sleep(pause)


def _status(client: Any, name: str) -> str | None:
    """None where there is no such job. An API server that does not answer raises: the step is tried again."""
    try:
        return client.get_job(name).status
    except ValueError:  # of the SDK's local backends
        return None
    except RuntimeError as error:
        if getattr(error.__cause__, "status", None) == 404:
            return None
        raise OSError(f"TrainJob {name}: {error} ({error.__cause__})") from error


def _relay(client: Any, name: str, shown: Counter[str]) -> Counter[str]:
    """Prints what the log has beyond the lines that were shown; returns its lines. A log is worth no failure.

    By content and not by place: a backend may give the logs of several machines, one behind the other.
    """
    try:  # a line at a time, or as much as there is
        lines = [line for part in client.get_job_logs(name) for line in part.splitlines()]
    except Exception as error:  # whatever the SDK and the API server make of a pod that is not there yet
        if shown:
            print(f"train: no log for now: {error}", flush=True)
        return shown
    before = shown.copy()
    for line in lines:
        if before[line]:
            before[line] -= 1
        else:
            print(f"  | {line}", flush=True)
    seen: Counter[str] = Counter(lines)
    seen |= shown
    return seen


if __name__ == "__main__":
    end_on_termination()
    try:
        sys.exit(step.main(performs=OverNodes))
    except (StageFailed, dvc.PullFailed, ValueError, OSError) as error:
        print(f"train: {said(error)}", file=sys.stderr)
        sys.exit(exit_code(error))
