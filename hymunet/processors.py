"""How many processors this program may use, and the one place that tells every library so.

A container's limit is a share of time, not a set of processors: what counts processors the usual way sees the whole
node, starts a thread on each and is throttled. The number is also a condition of equal bits: sums are split by it.
Imports nothing heavy: the variables have to be set before NumPy, torch and OpenCV are imported.
"""

import os
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

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
    groups = _groups(root)
    for line in _lines(root / "proc/self/mountinfo"):
        left, _, right = line.partition(" - ")
        if not right:
            continue
        kind, _, options = right.split(" ", 2)
        inside, mount = left.split(" ")[3:5]
        if kind == "cgroup2":
            read, group = _quota_v2, groups.get("")
        elif kind == "cgroup" and "cpu" in options.split(","):
            read, group = _quota_v1, groups.get("cpu")
        else:
            continue
        for folder in _upwards(root / mount.lstrip("/"), inside, group or "/"):
            if (quota := read(folder)) is not None:
                yield quota


def _groups(root: Path) -> dict[str, str]:
    """Controller -> this process's group; version 2 has one group for all, named ''."""
    found: dict[str, str] = {}
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, group = line.split(":", 2)
        found |= dict.fromkeys(controllers.split(","), group)
    return found


def _upwards(mount: Path, inside: str, group: str) -> Iterator[Path]:
    """The group's folder and those around it, as far as they are mounted here.

    In a container the mount often begins at the container's own group (`inside`), of which `group` is then the end.
    """
    path = PurePosixPath(group)
    relative = path.relative_to(inside) if path.is_relative_to(inside) else PurePosixPath()
    for part in [relative, *relative.parents]:
        if ".." not in part.parts:
            yield mount / part


def _quota_v2(folder: Path) -> float | None:
    words = next(iter(_lines(folder / "cpu.max")), "max").split()
    return None if words[0] == "max" else int(words[0]) / int(words[1])


def _quota_v1(folder: Path) -> float | None:
    quota, period = (next(iter(_lines(folder / f"cpu.cfs_{name}_us")), "-1") for name in ("quota", "period"))
    return None if int(quota) <= 0 or int(period) <= 0 else int(quota) / int(period)


def _lines(path: Path) -> list[str]:
    """The file's lines; none where this system has no such file."""
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
