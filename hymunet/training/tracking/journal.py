"""What a training says about itself: to a journal on the disk, which a process beside it delivers to MLflow.

The training only ever appends a line to a local file. The deliverer (hymunet.training.tracking.worker) reads it at its
own pace; a tracking server that is down, slow or wrong costs the training nothing and loses nothing.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from hymunet.training.checkpoint_store import Storage
from hymunet.training.tracking import kubeflow_status
from hymunet.training.tracking.keeper import JOURNAL, Keeper
from hymunet.training.tracking.tracker import Tracker as Tracker

PATIENCE = 60.0  # seconds that a finished training waits for its last points to arrive


class Journal(Tracker):
    """Appends to `<folder>/journal.jsonl`: one JSON object a line, `time` in milliseconds since 1970.

    A run that goes on from a checkpoint comes by steps that it has told of before: they are not told twice. With a
    `storage`, that of the checkpoints, a copy is kept there, as new as they are, and a new machine begins with it.
    """

    def __init__(self, folder: Path, description: dict[str, Any], storage: Storage | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.keeper = Keeper(folder, storage) if storage else None
        if self.keeper:
            self.keeper.restore()
        self.known = self._mend()
        self.file: BinaryIO = (folder / JOURNAL).open("a+b", buffering=0)
        self.status = "FAILED"
        self._append({"run": description})

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._append({"status": self.status})
        self.sync()
        self.file.close()

    def metrics(self, step: int, values: dict[str, float]) -> None:
        fresh = {key: value for key, value in values.items() if step > self.known.get(key, -1)}
        if fresh:
            self.known.update(dict.fromkeys(fresh, step))
            self._append({"step": step, "metrics": fresh})

    def reports(self, folder: Path) -> None:
        self._append({"reports": str(folder.resolve())})

    def finish(self, status: str) -> None:
        self.status = status

    def sync(self) -> None:
        os.fsync(self.file.fileno())
        if self.keeper:
            self.keeper.keep()

    def _append(self, record: dict[str, Any]) -> None:
        append(self.file, record)

    def _mend(self) -> dict[str, int]:
        """Cuts off a last line that was not finished; returns the last step told of each metric."""
        path = self.folder / JOURNAL
        known: dict[str, int] = {}
        if not path.exists():
            return known
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            with path.open("r+b") as file:
                file.truncate(len(whole))
        for record in parse(whole):
            for key in record.get("metrics", {}):
                known[key] = max(known.get(key, -1), record["step"])
        return known


class DeliveredJournal(Journal):
    """A journal with a deliverer beside it, which ends when this process does, however it ends."""

    def __enter__(self) -> Self:
        self.deliverer = subprocess.Popen(
            [sys.executable, "-m", "hymunet.training.tracking.worker", "--follow", str(self.folder)],
            stdin=subprocess.PIPE,
            start_new_session=True,  # an interrupt from the keyboard is the training's affair
        )
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        super().__exit__(kind, error, trace)
        assert self.deliverer.stdin is not None
        self.deliverer.stdin.close()  # no more is coming: deliver the rest and end
        try:
            self.deliverer.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.deliverer.kill()
            self.deliverer.wait()


ON, OFF = ("", "on", "1", "true"), ("off", "0", "false")  # of HYMUNET_TRACKING


def append(file: BinaryIO, record: dict[str, Any]) -> None:
    """A line of its own, whatever was left unfinished before it, by this process or the one beside it.

    file: open for appending and reading, without a buffer.
    """
    line = (json.dumps({"time": time.time_ns() // 1_000_000, **record}) + "\n").encode()
    with contextlib.suppress(OSError):  # a full disk must not end a training; the next line may fit again
        end = file.seek(0, os.SEEK_END)
        torn = end > 0 and os.pread(file.fileno(), 1, end - 1) != b"\n"
        file.write(b"\n" + line if torn else line)


def parse(lines: bytes) -> list[dict[str, Any]]:
    """The records of whole lines; a line that was damaged on the disk is left out."""
    records = []
    for line in lines.splitlines():
        with contextlib.suppress(ValueError):
            record = json.loads(line)
            if isinstance(record, dict):
                records.append(record)
    return records


def open_tracker(folder: Path, key: str, description: dict[str, Any], storage: Storage | None = None) -> Tracker:
    """description: `params` and `tags` of the run. storage: of its checkpoints. ValueError for no switch."""
    chosen = os.environ.get("HYMUNET_TRACKING", "").lower()
    if chosen not in (*ON, *OFF):
        raise ValueError(f"HYMUNET_TRACKING={chosen!r}: expected on or off")
    tracker = Tracker() if chosen in OFF else DeliveredJournal(folder / key, {"key": key, **description}, storage)
    if os.environ.get(kubeflow_status.URL):
        return kubeflow_status.KubeflowStatus(tracker, int(description["params"]["train.epochs"]))
    return tracker
