"""How many processors this program may use, and the one place that tells every library so.

A container's limit is a share of time, not a set of processors: what counts processors the usual way sees the whole
node, starts a thread on each and is throttled. The number is also a condition of equal bits: sums are split by it.
Imports nothing heavy: the variables have to be set before NumPy, torch and OpenCV are imported.
"""

import os
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path

from hymunet import control_groups

# OpenMP (torch), OpenBLAS and MKL (NumPy, SciPy, torch), OpenCV: each reads its own when it is loaded.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")


def processors(root: Path = Path("/")) -> int:
    """Processors that this process is bound to, less where its control groups grant less time; at least 1.

    Half a processor counts as none: 2.5 are two threads that never wait. `root`: where /proc and /sys are.
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([bound, *(int(quota) for quota in quotas(root))]))


def thread_variables(threads: int) -> dict[str, str]:
    """The environment of a program that computes with so many threads."""
    return dict.fromkeys(THREAD_VARIABLES, str(threads))


def limit_threads(environment: MutableMapping[str, str] = os.environ) -> None:
    """Holds what this process imports from now on to `processors()`; a variable that is set already stays.

    Where only OMP_NUM_THREADS is set, as people do, it speaks for the others.
    """
    for name, value in thread_variables(threads_wanted(environment)).items():
        environment.setdefault(name, value)


@contextmanager
def single_threaded_children() -> Iterator[None]:
    """Processes started meanwhile compute with one thread each; this one keeps what it has."""
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(thread_variables(1))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def threads_wanted(environment: MutableMapping[str, str] = os.environ) -> int:
    """OMP_NUM_THREADS where it is a number, else `processors()`."""
    wanted = environment.get("OMP_NUM_THREADS", "")
    return int(wanted) if wanted.isdecimal() and int(wanted) > 0 else processors()


def quotas(root: Path = Path("/")) -> Iterator[float]:
    """Processors granted by each control group, version 1 or 2, around this process; unlimited ones give nothing."""
    for version, folder in control_groups.folders("cpu", root):
        quota = (_quota_v2 if version == 2 else _quota_v1)(folder)
        if quota is not None:
            yield quota


def _quota_v2(folder: Path) -> float | None:
    words = next(iter(control_groups.lines(folder / "cpu.max")), "max").split()
    return None if words[0] == "max" else int(words[0]) / int(words[1])


def _quota_v1(folder: Path) -> float | None:
    quota, period = (
        next(iter(control_groups.lines(folder / f"cpu.cfs_{name}_us")), "-1") for name in ("quota", "period")
    )
    return None if int(quota) <= 0 or int(period) <= 0 else int(quota) / int(period)
