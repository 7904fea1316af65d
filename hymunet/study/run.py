"""Computes what a study lacks: cells as processes of their own, several at once, stopped and continued at will."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from hymunet.places import in_words
from hymunet.processors import thread_variables, threads_wanted
from hymunet.study import state as states_of
from hymunet.study.board import Board
from hymunet.study.cell import AT_ONCE, BUSY, PARENT
from hymunet.study.data import Places
from hymunet.study.definition import file_of
from hymunet.study.plan import Cell, Plan
from hymunet.study.results import Result
from hymunet.study.state import State
from hymunet.training.interrupts import INTERRUPTED, RESUME_ME

EPOCH = re.compile(rb"epoch (\d+)/(\d+)")
TAIL, PAUSE = 4096, 0.2
ANOTHER = "by another process; the same command again, when that has ended, makes sure of it"


def visible_gpus(environment: Mapping[str, str] = os.environ) -> list[str]:
    """As CUDA_VISIBLE_DEVICES names them; none on a machine without."""
    import torch

    count = torch.cuda.device_count()
    named = [name for name in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return named[:count] if len(named) >= count else [str(number) for number in range(count)]


def to_do(states: Mapping[Cell, State], closed: bool, missing_only: bool) -> list[Cell]:
    """The cells without a result, or with one of other settings, data or code; missing_only: the latter stay."""
    finished = {"done", "running", *(["trained"] if closed else []), *(["stale"] if missing_only else [])}
    return [cell for cell, state in states.items() if state.kind not in finished]


@dataclass
class Working:
    process: subprocess.Popen[bytes]
    log: Path
    worker: int
    start: float = field(default_factory=time.monotonic)

    def progress(self) -> float | None:
        """The part of the epochs that is done, from the last line that names one."""
        with self.log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
            found = EPOCH.findall(file.read())
        return int(found[-1][0]) / int(found[-1][1]) if found else None


class Runner:
    """Runs cells with `workers` processes at a time; each has a GPU of its own, in turn, or its part of the processors.

    The first SIGTERM or SIGINT tells every process to save and stop, a second one ends them at once. done: called with
    each result as it comes.
    """

    def __init__(
        self,
        plan: Plan,
        places: Places,
        states: dict[Cell, State],
        workers: int,
        closed: bool,
        done: Callable[[Result], None] = lambda result: None,
    ) -> None:
        self.done = done
        self.plan, self.places, self.states, self.closed = plan, places, states, closed
        self.gpus = visible_gpus()
        self.free = list(range(workers))
        self.workers = workers
        self.working: dict[Cell, Working] = {}
        self.seconds: dict[Cell, float] = {}
        self.signal: int | None = None
        self.board = Board(sys.stdout)

    def run(self, cells: Sequence[Cell]) -> int:
        """0 when these, and those that another process had, are there; 1 when some failed; 75 or 130 when this, or a
        cell, was stopped before, or another process is not done yet."""
        waiting = list(cells)
        for cell in waiting:
            self.states[cell] = State("missing")
        before = {number: signal.signal(number, self._stop) for number in (signal.SIGTERM, signal.SIGINT)}
        shown = 0.0
        try:
            while self.working or (waiting and not self.signal):
                while waiting and self.free and not self.signal:
                    self._start(waiting.pop(0))
                changed = self._collect()
                if changed or time.monotonic() - shown >= 1:
                    self._show(waiting)
                    shown = time.monotonic()
                time.sleep(PAUSE)
            self._show(waiting)
        finally:
            for working in self.working.values():
                self._kill(working, signal.SIGKILL)
            for number, handler in before.items():
                signal.signal(number, handler)
        if self.signal:
            return INTERRUPTED if self.signal == signal.SIGINT else RESUME_ME
        for cell in [cell for cell, state in self.states.items() if state.kind == "running"]:
            found = states_of.state(self.plan, cell, self.places)
            self.states[cell] = State("running", ANOTHER) if found.kind == "running" else found
        kinds = {state.kind for state in self.states.values()}
        return 1 if "failed" in kinds else RESUME_ME if kinds & {"stopped", "running", "missing"} else 0

    def _start(self, cell: Cell) -> None:
        worker = self.free.pop(0)
        try:
            self.working[cell] = self._begun(cell, worker)
            self.states[cell] = State("running")
        except OSError as error:  # this cell's alone: the others go on
            self.free.append(worker)
            self.states[cell] = State("failed", in_words(error))

    def _begun(self, cell: Cell, worker: int) -> Working:
        work = states_of.workplace(self.places, cell)
        work.mkdir(parents=True, exist_ok=True)
        (work / states_of.FAILED).unlink(missing_ok=True)
        command = [sys.executable, "-m", "hymunet.study.cell", str(file_of(self.plan.folder)), cell.name]
        command += ["--work", str(self.places.work)]
        command += [f"--data={name}={folder}" for name, folder in self.places.given.items()]
        command += ["--closed"] * self.closed
        environment = {**os.environ, PARENT: str(os.getpid()), "PYTHONUNBUFFERED": "1"}
        if self.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = self.gpus[worker % len(self.gpus)]
            environment[AT_ONCE] = str(-(-self.workers // len(self.gpus)))
        environment |= thread_variables(max(1, threads_wanted() // self.workers))
        log = work / states_of.LOG
        with log.open("ab") as file:
            # A group of its own: a Ctrl-C is this program's affair, which tells the cell to save.
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=environment, start_new_session=True
            )
        return Working(process, log, worker)

    def _collect(self) -> bool:
        """Takes in the processes that have ended; True when there was one."""
        ended = [cell for cell, working in self.working.items() if working.process.poll() is not None]
        for cell in ended:
            working = self.working.pop(cell)
            self.free.append(working.worker)
            code = working.process.returncode
            if code == 0:
                self.seconds[cell] = time.monotonic() - working.start
                self.states[cell] = found = states_of.state(self.plan, cell, self.places)
                if found.kind == "done" and found.result:
                    self.done(found.result)
            elif code == BUSY:
                self.states[cell] = State("running", ANOTHER)
            elif self.signal or code in (RESUME_ME, INTERRUPTED, -signal.SIGTERM):
                self.states[cell] = State("stopped")
            else:
                said = self._noted(cell, code)
                self.states[cell] = State("failed", f"exit code {code}: {said} ({working.log})")
        return bool(ended)

    def _noted(self, cell: Cell, code: int) -> str:
        """What a cell that failed said last, noted for the next run."""
        try:
            return states_of.note_failure(self.plan, cell, self.places, code)
        except OSError as error:
            return f"not noted for the next run ({in_words(error)}); why it failed is in its log"

    def _show(self, waiting: Sequence[Cell]) -> None:
        progress = {cell: done for cell, working in self.working.items() if (done := working.progress()) is not None}
        self.board.show(self.states, progress, self.seconds_left(waiting, progress))

    def seconds_left(self, waiting: Sequence[Cell], progress: Mapping[Cell, float]) -> float | None:
        """From what this model's cells took, else what all did; None before anything is known."""
        total = 0.0
        for cell in waiting:
            if (typical := self._typical(cell)) is None:
                return None
            total += typical
        for cell, working in self.working.items():
            spent, done = time.monotonic() - working.start, progress.get(cell)
            typical = self._typical(cell)
            if typical is None:
                if not done:
                    return None
                typical = spent / done
            total += max(0.0, typical - spent)
        return total / self.workers

    def _typical(self, cell: Cell) -> float | None:
        known = {**self._recorded(), **self.seconds}
        own = [took for other, took in known.items() if (other.images, other.model) == (cell.images, cell.model)]
        some = own or list(self.seconds.values()) or list(known.values())
        return sum(some) / len(some) if some else None

    def _recorded(self) -> dict[Cell, float]:
        return {
            cell: state.result.record["training_seconds"]
            for cell, state in self.states.items()
            if state.result and state.kind in ("done", "trained")
        }

    def _stop(self, number: int, frame: FrameType | None) -> None:
        again, self.signal = self.signal is not None, number
        for working in self.working.values():
            self._kill(working, signal.SIGKILL if again else signal.SIGTERM)
        if not again:
            print(f"study: stopping; {len(self.working)} cells save what they have", file=sys.stderr, flush=True)

    @staticmethod
    def _kill(working: Working, number: int) -> None:
        if working.process.poll() is None:
            # To end it at once means with its loaders; to save is the affair of the program alone.
            os.killpg(working.process.pid, number) if number == signal.SIGKILL else working.process.send_signal(number)
