"""A part of a run that is no stage of dvc.yaml, recorded as stages are: a study's cells and tables, a prediction."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from hymunet.addresses import said
from pipelines.records import BEGUN, Record, Run
from pipelines.scratch import scratch
from pipelines.workspace import open_remote


class Part:
    """What becomes of it, from the moment that it begins. Without a run or a remote nothing is recorded."""

    def __init__(self, remote: str | None, run: str | None, name: str) -> None:
        self.remote, self.run, self.name, self.started = remote, run, name, time.monotonic()
        self.state, self.reason = "computed", ""

    @contextmanager
    def recorded(self) -> Iterator["Part"]:
        """Begun, then `state` and `reason` as the caller left them; failed, with the reason, where it raises."""
        self._write(BEGUN)
        try:
            yield self
        except BaseException as error:
            self._write("failed", said(error), getattr(error, "status", 0))
            raise
        self._write(self.state, self.reason)

    def _write(self, state: str, reason: str = "", status: int = 0) -> None:
        """A record is worth no failure: where the store cannot be reached the log alone tells."""
        if not self.remote or not self.run:
            return
        seconds = round(time.monotonic() - self.started, 3)
        commit = os.environ.get("HYMUNET_GIT_COMMIT", "unknown")
        record = Record(self.name, state, seconds, 0.0, 0, 0, commit, reason, status)
        try:
            with scratch() as folder, open_remote(folder, self.remote) as store:
                Run(store, self.run).write(record)
        except Exception as error:  # DVC's, the store's client's
            print(f"{self.name}: its state, {state}, cannot be recorded: {said(error)}", file=sys.stderr, flush=True)
