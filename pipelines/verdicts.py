"""A step that failed for good: no error to Kubeflow, which would try it again for hours, but a result: the run ends.

Kubeflow retries whatever ends with an exit code other than 0. So a step whose program said "trying again does not help"
ends well and writes why into the lock that it hands on; every step after it hands that on in turn, and the last one,
which has no retries, fails the run with it.
"""

import html
import json
import sys
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Self

from ruamel.yaml import YAML

from hymunet.addresses import said
from hymunet.places import lasting
from pipelines.outputs import Outputs

FAULT, IO_FAILED = 70, 74  # as in components.cli
FINAL = {1, 2}  # components.cli: what a user can get wrong; argparse: an option that the program does not have
PASSING = {"RequestTimeTooSkewed", "ExpiredToken"}  # forbidden to this node's clock, or to keys that are renewed
KEY = "failed"
NOTHING = b"schema: '2.0'\nstages: {}\n"  # a lock without a stage


def for_good(error: Exception) -> bool:
    """Whether another try would end the same: bad input, what is not there or not allowed, a program that said so."""
    if (status := getattr(error, "status", None)) is not None:
        return status in FINAL
    if isinstance(error, OSError):
        return lasting(error) and _said(error) not in PASSING
    return isinstance(error, ValueError)


def _said(error: BaseException | None) -> str | None:
    """The code of a store's answer, where that is what an error came from."""
    while error is not None:
        if isinstance(answer := getattr(error, "response", None), dict):
            return str(answer.get("Error", {}).get("Code"))
        error = error.__cause__
    return None


def exit_code(error: Exception) -> int:
    """As components.cli has them: 1 where another try would end the same, 74 of a store or disk, 70 of anything else;
    a program that ran has its own."""
    if (status := getattr(error, "status", None)) is not None:
        return int(status)
    if for_good(error):
        return 1
    return IO_FAILED if isinstance(error, OSError) else FAULT


@dataclass(frozen=True)
class FailedForGood:
    """The first step that failed, and why, in one line."""

    stage: str
    reason: str

    @classmethod
    def of(cls, stage: str, error: Exception) -> Self:
        """Said on standard error, too: the step's log is where people look first."""
        failed = cls(stage, said(error))
        print(f"step: {failed}", file=sys.stderr, flush=True)
        return failed

    @classmethod
    def read(cls, lock: Path) -> Self | None:
        """What a lock hands on; None where all is well so far."""
        content: Any = YAML(typ="safe", pure=True).load(lock) if lock.exists() else None
        found = content.get(KEY) if isinstance(content, dict) else None
        return cls(**found) if found else None

    def marked(self, lock: Path) -> bytes:
        """The lock's text, with this in it."""
        text = lock.read_bytes() if lock.exists() else NOTHING
        yaml, added = YAML(), BytesIO()
        yaml.width = 4096
        yaml.dump({KEY: asdict(self)}, added)
        return text + added.getvalue()

    def __str__(self) -> str:
        return f"step {self.stage} failed, and trying again would not help: {self.reason}"


def hand_on(failed: FailedForGood, lock: Path, outputs: Outputs) -> None:
    """Every output that Kubeflow waits for, with the failure in it, so that the steps that follow do not run."""
    for name in outputs.names():
        if name == "lock":
            outputs.artifact(name, failed.marked(lock) if FailedForGood.read(lock) is None else lock.read_bytes())
        elif name == "report":
            outputs.artifact(name, f"<!doctype html><meta charset=utf-8><p>{html.escape(str(failed))}</p>")
        else:
            outputs.artifact(name, json.dumps({"failed": str(failed)}))
    for name in outputs.parameters():
        outputs.parameter(name, "true")  # the gate after the data checks: it is the failure's reader that stops the run
    outputs.save()


def stopped_before(name: str, outputs: Outputs) -> bool:
    """Whether a step before `name` failed for good; that is handed on then."""
    for lock in outputs.inputs("lock"):
        if failed := FailedForGood.read(lock):
            print(f"step: {name} does not run: {failed}", flush=True)
            hand_on(failed, lock, outputs)
            return True
    return False
