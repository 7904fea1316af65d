"""This process's control groups, version 1 or 2: the folders in which the kernel keeps their limits and counts."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def folders(controller: str, root: Path = Path("/")) -> Iterator[tuple[int, Path]]:
    """(version, folder) of the group and of those around it, inner ones first. `root`: where /proc and /sys are."""
    groups = _groups(root)
    for line in lines(root / "proc/self/mountinfo"):
        left, _, right = line.partition(" - ")
        if not right:
            continue
        kind, _, options = right.split(" ", 2)
        inside, mount = left.split(" ")[3:5]
        if kind == "cgroup2":
            version, group = 2, groups.get("")
        elif kind == "cgroup" and controller in options.split(","):
            version, group = 1, groups.get(controller)
        else:
            continue
        for folder in _upwards(root / mount.lstrip("/"), inside, group or "/"):
            yield version, folder


def _groups(root: Path) -> dict[str, str]:
    """Controller -> this process's group; version 2 has one group for all, named ''."""
    found: dict[str, str] = {}
    for line in lines(root / "proc/self/cgroup"):
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


def lines(path: Path) -> list[str]:
    """The file's lines; none where this system has no such file."""
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def memory_bytes(root: Path = Path("/")) -> int | None:
    """What the programs of this process's group use, without the files that the kernel could drop; None if unknown.

    As Kubernetes counts it (`working set`), and so what a pod's limit is held against.
    """
    names = {1: ("memory.usage_in_bytes", "total_inactive_file"), 2: ("memory.current", "inactive_file")}
    for version, folder in folders("memory", root):
        usage, droppable = names[version]
        if found := lines(folder / usage):
            counts = dict(line.split() for line in lines(folder / "memory.stat"))
            return max(0, int(found[0]) - int(counts.get(droppable, 0)))
    return None
