"""What became of each step of a run, kept in the DVC remote beside the data: `<remote>/pipeline-runs/<run>/`.

One JSON file a step, the run's dvc.lock and, at its end, its outcome: enough to say what a run did, and to bring it
home, for whoever can read the remote; Kubeflow's own artifact store need not be reachable.
"""

import json
import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from hymunet import atomic
from hymunet.addresses import without_secrets

FOLDER, OUTCOME = "pipeline-runs", "outcome"
BEGUN = "begun"
BAD = ("failed", "rejected", "skipped")
RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True)
class Record:
    """One step of one run.

    `state`: begun, and then computed, restored, failed, rejected (by the data checks) or skipped (a cell of a study
    whose data are not there). One that stays at begun was stopped, or its pod was lost.
    """

    stage: str
    state: str
    seconds: float  # of the whole step, in its container
    command_seconds: float  # of which the stage's own program ran
    pulled_bytes: int
    made_bytes: int
    commit: str
    reason: str = ""
    status: int = 0  # exit code of the stage's program, where it failed


def require_name(run: str) -> None:
    if not RUN.fullmatch(run):
        raise ValueError(f"run {run!r}: a run's name has letters, digits, '.', '_' and '-' alone")


class Run:
    """A run's folder in a DVC remote."""

    def __init__(self, remote: Any, run: str) -> None:
        require_name(run)
        self.fs, self.folder, self.run = remote.fs, remote.fs.join(remote.path, FOLDER, run), run

    def write(self, record: Record) -> None:
        self._put(
            f"{record.stage}.json", json.dumps({**asdict(record), "reason": without_secrets(record.reason)}, indent=1)
        )

    def write_lock(self, text: str) -> None:
        self._put("dvc.lock", text)

    def write_outcome(self, text: str) -> None:
        """How the run ended, in a line; of the last attempt where it was run again."""
        self._put(OUTCOME, f"{text}\n")

    def records(self) -> list[Record]:
        """Every step's record so far, by stage name; none when nobody knows the run."""
        if not self.fs.exists(self.folder):
            return []
        files = sorted(path for path in self.fs.find(self.folder) if path.endswith(".json"))
        known = {field.name for field in fields(Record)}  # a newer version may have written more
        return [Record(**{k: v for k, v in json.loads(self.fs.cat_file(path)).items() if k in known}) for path in files]

    def fetch_lock(self, target: Path) -> None:
        """ValueError when the run recorded no lock: none of its steps succeeded, or it is unknown."""
        path = self.fs.join(self.folder, "dvc.lock")
        if not self.fs.exists(path):
            raise ValueError(f"run {self.run}: no lock is recorded in {self.fs.unstrip_protocol(self.folder)}")
        target.write_bytes(self.fs.cat_file(path))

    def _put(self, name: str, text: str) -> None:
        path = self.fs.join(self.folder, name)
        if self.fs.protocol == "local":  # a store's object is there whole or not at all, and so is this file
            atomic.write(Path(path), text)
        else:
            self.fs.pipe_file(path, text.encode())
