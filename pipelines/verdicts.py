"""A step that failed for good: no error to Kubeflow, which would try it again for hours, but a result: the run ends.

Kubeflow retries whatever ends with an exit code other than 0. So a step whose program said "trying again does not help"
ends well and writes why into the lock that it hands on; every step after it hands that on in turn, and the last one,
which has no retries, fails the run with it.
"""

from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Self

from ruamel.yaml import YAML

from hymunet.places import lasting

FINAL = {1, 2}  # components.cli: what a user can get wrong; argparse: an option that the program does not have
KEY = "failed"
NOTHING = b"schema: '2.0'\nstages: {}\n"  # a lock without a stage


def for_good(error: Exception) -> bool:
    """Whether another try would end the same: bad input, and what is not there or not allowed."""
    return lasting(error) if isinstance(error, OSError) else isinstance(error, ValueError)


@dataclass(frozen=True)
class FailedForGood:
    """The first step that failed, and why, in one line."""

    stage: str
    reason: str

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
