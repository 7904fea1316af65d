"""Waits for loader processes that end, whatever becomes of those processes.

torch waits without bound for a process that is stopped, or that hangs in a read, while it hands a batch over; signals
are only noted meanwhile. The end of that process ends such a wait, so a thread watches how long each takes, and kills.
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.process import BaseProcess
from threading import Event, Lock, Thread
from typing import Self, TypeVar

from hymunet.training.shared_memory import LoaderDied

Result = TypeVar("Result")

LOOK = 0.5  # seconds between looks, which are counted: a pause of the whole program is not the loaders' fault
NOTICE = 10.0  # seconds of a wait after which processes that are stopped are told of
PATIENCE = 600.0  # seconds for one batch; a slow disk has its time
GRACE = 2.0  # seconds for a batch after the training was told to stop

log = logging.getLogger("hymunet.training")


class Patience:
    """Waits for `processes`, which it kills when a wait takes too long. It watches while it is used as a context."""

    def __init__(self, processes: Sequence[BaseProcess], stopping: Callable[[], bool]) -> None:
        self.processes, self.stopping = processes, stopping
        self._changing, self._over = Lock(), Event()
        self._waited: float | None = None  # seconds of the present wait; None: there is none
        self._told = 0.0  # seconds of it after the training was told to stop
        self._limit = PATIENCE
        self._cause = ""  # why the processes were killed
        self._thread = Thread(target=self._watch, name="patience", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join()
        for process in self.processes:
            process.kill()  # deaf to SIGTERM

    def wait(self, action: Callable[[], Result], limit: float | None = None) -> Result | None:
        """What `action` returns; None when the training was told to stop and GRACE has passed.

        limit: seconds after which LoaderDied is raised, which names the cause; PATIENCE where it is not given.
        """
        try:
            with self._changing:
                self._waited, self._told, self._limit = 0.0, 0.0, PATIENCE if limit is None else limit
            result = action()
            with self._changing:
                self._waited = None
            if not self._cause:
                return result
            for process in self.processes:  # so that torch's own error of their death is raised here and not later
                process.join(GRACE)
        except Exception:
            if not self._cause:
                raise
        finally:
            self._waited = None
        if self.stopping():
            return None
        raise LoaderDied(self._cause)

    def end(self, action: Callable[[], object]) -> None:
        """`action`, which has the processes end; those that have not after GRACE are killed."""
        with suppress(LoaderDied):
            self.wait(action, GRACE)

    def _watch(self) -> None:
        while not self._over.wait(LOOK):
            with self._changing:
                if self._waited is None or self._cause:
                    continue
                self._waited += LOOK
                self._told += LOOK * self.stopping()
                if self._waited >= self._limit or self._told >= GRACE:
                    self._cause = self._explained()
                    for process in self.processes:
                        process.kill()
                elif self._waited - LOOK < NOTICE <= self._waited and (stopped := self._stopped()):
                    log.warning("%s; the training waits", _to_continue(stopped))

    def _explained(self) -> str:
        waited = f"no batch came from the loader processes for {self._waited:.0f} s"
        if stopped := self._stopped():
            return f"{waited}: {_to_continue(stopped)} and start the training again"
        return f"{waited}; is the disk of data/prepared stuck? train.workers=0 does without such processes"

    def _stopped(self) -> list[int]:
        import psutil

        found = []
        for process in self.processes:
            try:
                status = psutil.Process(process.pid).status()
            except psutil.Error:  # ended meanwhile
                continue
            if status in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP):
                found.append(int(process.pid or 0))
        return found


def _to_continue(stopped: list[int]) -> str:
    pids = " ".join(map(str, stopped))
    return f"loader processes are stopped (as by SIGSTOP or a debugger); let them go on with kill -CONT {pids}"
