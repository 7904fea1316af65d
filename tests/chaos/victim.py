"""The training program in a process that is about to suffer: run inside a fork, with one misfortune arranged."""

import errno
import importlib
import os
import random
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from components.train.__main__ import main
from hymunet.training import checkpoint_store, learner, reports, trainer
from hymunet.training.tracking import journal

# Done here once, inherited by every fork: imports and fonts. An optimizer imports torch's compiler, used or not.
importlib.import_module("albumentations")
importlib.import_module("torch._dynamo")
reports.curves([{"epoch": 1, "loss": 1.0, "validation_dice": 0.5, "learning_rate": 0.1}])

POINTS = ("write", "written", "fsync", "replace", "replaced", "synced", "delete", "deleted")


@dataclass(frozen=True)
class Misfortune:
    """SIGKILL at a named point of the `object`-th file that the checkpoints write or delete, or no space left there."""

    point: str
    object: int
    fraction: float = 0.5  # of the content that still gets written
    full: bool = False


def run(argv: list[str], log: str, steps: str, misfortune: Misfortune | None) -> None:
    """Never returns: ends the process with the program's exit code."""
    os.setsid()
    for stream, flags in ((1, os.O_WRONLY | os.O_CREAT | os.O_APPEND), (2, os.O_WRONLY | os.O_CREAT | os.O_APPEND)):
        os.dup2(os.open(log, flags, 0o644), stream)
    torch.set_num_threads(1)
    journal.DeliveredJournal = journal.Journal  # type: ignore[misc]  # the journal as always, nobody beside it
    _count_steps(Path(steps))
    if misfortune:
        _arrange(misfortune)
    sys.argv = ["train"]
    code = 1
    try:
        code = main(argv)
    except BaseException as error:
        print(f"victim: {error!r}", file=sys.stderr, flush=True)
    finally:
        os._exit(code)


def _count_steps(path: Path) -> None:
    """Writes the number of every finished step, and of the step that the run resumed from."""
    learn, restore = learner.Learner.learn, learner.Learner.restore

    def counted(self: Any, batch: Any) -> None:
        learn(self, batch)
        _note(path, f"done {self.progress.step}")

    def noted(self: Any, checkpoint: Any) -> None:
        restore(self, checkpoint)
        _note(path, f"from {checkpoint.step}")

    learner.Learner.learn, learner.Learner.restore = counted, noted  # type: ignore[method-assign]
    assert trainer.Learner is learner.Learner


def _note(path: Path, line: str) -> None:
    with path.open("a") as file:
        file.write(line + "\n")


def _arrange(misfortune: Misfortune) -> None:
    objects = [0]

    def strike(point: str, file: Any = None, content: bytes = b"") -> None:
        if point != misfortune.point or objects[0] != misfortune.object:
            return
        if file is not None:
            file.write(content[: int(len(content) * misfortune.fraction)])
            file.flush()
        if misfortune.full:
            objects[0] += 1000  # there is space again afterwards
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.kill(os.getpid(), signal.SIGKILL)

    class Folder(checkpoint_store.Folder):
        """Does what checkpoint_store.Folder does, call by call, with a chance to die between any two of them."""

        def write(self, name: str, content: bytes) -> None:
            if name == ".probe":
                return super().write(name, content)
            objects[0] += 1
            with _patched(strike, content):
                super().write(name, content)

        def delete(self, name: str) -> None:
            if name == ".probe":
                return super().delete(name)
            objects[0] += 1
            strike("delete")
            super().delete(name)
            strike("deleted")

        def _sync(self) -> None:
            strike("replaced")
            super()._sync()
            strike("synced")

    trainer.open_storage = lambda location, key: Folder(Path(location) / key)  # type: ignore[assignment]


class _patched:
    """While open: strikes inside file.write, before and after fsync, and before the rename."""

    def __init__(self, strike: Any, content: bytes) -> None:
        self.strike, self.content = strike, content

    def __enter__(self) -> None:
        strike, content, original = self.strike, self.content, (os.fsync, os.replace, Path.open)
        self.original = original

        def opened(path: Path, *args: Any, **kwargs: Any) -> Any:
            file = original[2](path, *args, **kwargs)
            if args == ("wb",):
                strike("write", file, content)
            return file

        def fsync(descriptor: int) -> None:
            strike("written")
            original[0](descriptor)
            strike("fsync")

        def replace(source: Any, target: Any) -> None:
            strike("replace")
            original[1](source, target)

        os.fsync, os.replace, Path.open = fsync, replace, opened  # type: ignore[assignment,method-assign]

    def __exit__(self, *_: object) -> None:
        os.fsync, os.replace, Path.open = self.original  # type: ignore[method-assign]


def random_misfortune(source: random.Random, full: bool) -> Misfortune:
    point = source.choice(POINTS[:5] if full else POINTS)
    return Misfortune(point, source.randint(1, 5), source.random(), full)
