"""The container's share of time counts, wherever the kernel writes it, and every library is held to it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hymunet import processors
from hymunet.processors import THREAD_VARIABLES, limit_threads

ROOT = Path(__file__).resolve().parents[2]
V2 = "30 24 0:26 {inside} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup rw,nsdelegate"
V1 = "32 31 0:29 {inside} /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct"
OTHER = "36 31 0:33 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory"


def v1(quota: int, period: int = 100_000, folder: str = "") -> dict[str, str]:
    base = f"sys/fs/cgroup/cpu,cpuacct/{folder}"
    return {f"{base}/cpu.cfs_quota_us": f"{quota}\n", f"{base}/cpu.cfs_period_us": f"{period}\n"}


def v2(text: str, folder: str = "") -> dict[str, str]:
    return {f"sys/fs/cgroup/{folder}/cpu.max": f"{text}\n"}


POD = "kubepods.slice/pod1.slice"
CASES = {
    # name: (/proc/self/cgroup, mounts, files, processors of 96)
    "no control groups": ("", [], {}, 96),
    "v2 in a pod": ("0::/", [V2.format(inside="/")], v2("200000 100000"), 2),
    "v2 max": ("0::/", [V2.format(inside="/")], v2("max 100000"), 96),
    "v2 without the cpu controller": ("0::/", [V2.format(inside="/")], {}, 96),
    "v2 fraction of one": ("0::/", [V2.format(inside="/")], v2("50000 100000"), 1),
    "v2 two and a half": ("0::/", [V2.format(inside="/")], v2("250000 100000"), 2),
    "v2 another period": ("0::/", [V2.format(inside="/")], v2("60000 20000"), 3),
    "v2 more than the machine": ("0::/", [V2.format(inside="/")], v2("99900000 100000"), 96),
    "v2 nested, the inner one limits": (
        f"0::/{POD}",
        [V2.format(inside="/")],
        v2("800000 100000", "kubepods.slice") | v2("400000 100000", POD),
        4,
    ),
    "v2 nested, an outer one limits": (
        f"0::/{POD}",
        [V2.format(inside="/")],
        v2("300000 100000", "kubepods.slice") | v2("max 100000", POD),
        3,
    ),
    "v2 mounted from the pod's own group": (f"0::/{POD}", [V2.format(inside=f"/{POD}")], v2("500000 100000"), 5),
    "v2 a group below the mounted one": (
        f"0::/{POD}/step",
        [V2.format(inside=f"/{POD}")],
        v2("max 100000") | v2("600000 100000", "step"),
        6,
    ),
    "v2 a group outside of the namespace": ("0::/../other", [V2.format(inside="/")], v2("200000 100000"), 2),
    "v1 in a pod": ("4:cpu,cpuacct:/", [OTHER, V1.format(inside="/")], v1(300_000), 3),
    "v1 without limit": ("4:cpu,cpuacct:/", [OTHER, V1.format(inside="/")], v1(-1), 96),
    "v1 fraction": ("4:cpu,cpuacct:/", [V1.format(inside="/")], v1(150_000), 1),
    "v1 with the host's paths, as Docker mounts it": (
        "4:cpu,cpuacct:/docker/abc",
        [V1.format(inside="/docker/abc")],
        v1(200_000),
        2,
    ),
    "v1 nested": (
        "4:cpu,cpuacct:/outer/inner",
        [V1.format(inside="/")],
        v1(700_000, folder="outer") | v1(-1, folder="outer/inner"),
        7,
    ),
    "both, v1 with the cpu": (
        "4:cpu,cpuacct:/\n0::/",
        [V1.format(inside="/"), V2.format(inside="/").replace("/sys/fs/cgroup", "/sys/fs/cgroup/unified")],
        v1(200_000),
        2,
    ),
}


def tree(root: Path, groups: str, mounts: list[str], files: dict[str, str]) -> Path:
    for name, text in {"proc/self/cgroup": groups, "proc/self/mountinfo": "\n".join(mounts), **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize("name", CASES)
def test_the_smallest_of_the_limits_counts(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processors.os, "sched_getaffinity", lambda _: set(range(96)))
    *parts, expected = CASES[name]
    assert processors.processors(tree(tmp_path, *parts)) == expected


def test_a_process_bound_to_one_processor_has_one() -> None:
    program = (
        "import os; from hymunet.processors import processors\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); print(processors())"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, dict.fromkeys(THREAD_VARIABLES, "3")),
        ({"OMP_NUM_THREADS": "1"}, dict.fromkeys(THREAD_VARIABLES, "1")),
        ({"OMP_NUM_THREADS": "8,2"}, dict.fromkeys(THREAD_VARIABLES, "3") | {"OMP_NUM_THREADS": "8,2"}),
        ({"OPENBLAS_NUM_THREADS": "1"}, dict.fromkeys(THREAD_VARIABLES, "3") | {"OPENBLAS_NUM_THREADS": "1"}),
    ],
)
def test_what_is_set_stays_and_the_rest_follows(
    given: dict[str, str], expected: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processors, "processors", lambda: 3)
    environment = dict(given)
    limit_threads(environment)
    assert environment == expected


@pytest.mark.parametrize("step", ["prepare", "train"])
def test_a_steps_program_holds_every_library_to_the_limit(step: str) -> None:
    """Run as a program runs: the limit is there before the first heavy import, and all three libraries keep it."""
    program = (
        "import sys, os\n"
        "from hymunet import processors\n"
        "processors.processors = lambda root=None: 1\n"
        "from components import cli\n"
        "assert not {'torch', 'numpy', 'cv2'} & set(sys.modules)\n"
        "def main():\n"
        "    import cv2, torch, numpy, scipy.linalg\n"
        "    import threadpoolctl\n"
        "    numpy.ones((500, 500)) @ numpy.ones((500, 500))\n"
        "    pools = {p['internal_api']: p['num_threads'] for p in threadpoolctl.threadpool_info()}\n"
        "    print(cv2.getNumThreads(), torch.get_num_threads(), sorted(set(pools.values())))\n"
        f"cli.guarded({step!r}, main)\n"
    )
    environment = {name: value for name, value in os.environ.items() if name not in THREAD_VARIABLES}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "1 1 [1]\n"


def test_children_are_single_threaded_and_this_process_is_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    before = dict(os.environ)
    with processors.single_threaded_children():
        assert {os.environ[name] for name in THREAD_VARIABLES} == {"1"}
    assert dict(os.environ) == before
