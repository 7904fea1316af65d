"""The load that is recorded is that of this container and of the GPUs that the training sees."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from hymunet import control_groups
from hymunet.training.tracking import gpus, sampler
from hymunet.training.tracking.keeper import JOURNAL

UUIDS = ["GPU-aaaa1111", "GPU-bbbb2222", "GPU-cccc3333"]


class NVMLError(Exception):
    pass


def by_index(index: int) -> int:
    if not 0 <= index < len(UUIDS):
        raise NVMLError(index)
    return index


# The calls of NVML that are used, on a machine with three GPUs: there is none here.
NVML = SimpleNamespace(
    NVMLError=NVMLError,
    nvmlInit=lambda: None,
    nvmlDeviceGetCount=lambda: len(UUIDS),
    nvmlDeviceGetHandleByIndex=by_index,
    nvmlDeviceGetUUID=lambda handle: UUIDS[handle],
    nvmlDeviceGetUtilizationRates=lambda handle: SimpleNamespace(gpu=10 * (handle + 1)),
    nvmlDeviceGetMemoryInfo=lambda handle: SimpleNamespace(used=100 * (handle + 1)),
    nvmlDeviceGetTotalEnergyConsumption=lambda handle: 1_000_000 * (handle + 1),  # millijoules
)


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        (None, [0, 1, 2]),
        ("", []),
        ("2", [2]),
        ("2,0", [2, 0]),
        (" 1 , 2 ", [1, 2]),
        ("-1", []),
        ("0,-1,1", [0]),
        ("1,7,0", [1]),
        ("GPU-bbbb2222", [1]),
        ("GPU-c", [2]),
        ("GPU-zz,0", []),
    ],
)
def test_the_gpus_are_those_that_cuda_shows(named: str | None, expected: list[int]) -> None:
    assert gpus.visible(NVML, named) == expected


def test_load_is_the_mean_and_memory_the_sum_over_the_visible_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", NVML)
    load = gpus.load({"CUDA_VISIBLE_DEVICES": "1,2"})
    assert load == {"system/gpu_percent": 25.0, "system/gpu_memory_bytes": 500.0}
    assert gpus.load({"CUDA_VISIBLE_DEVICES": ""}) == {}


def without_meter(handle: int) -> int:
    raise NVMLError("Not Supported")


METERS = {
    "two GPUs": (NVML, "1,2", 5000.0),
    "no GPU is seen": (NVML, "", None),
    "older than its meter": (
        SimpleNamespace(**{**vars(NVML), "nvmlDeviceGetTotalEnergyConsumption": without_meter}),
        "0",
        None,
    ),
    "no such package": (None, "0", None),
}


@pytest.mark.parametrize("case", METERS)
def test_energy_is_the_sum_over_the_visible_gpus(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    nvml, named, expected = METERS[case]
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    assert gpus.joules({"CUDA_VISIBLE_DEVICES": named}) == expected


@pytest.mark.parametrize(
    ("readings", "expected"),
    [
        ([1000.0, 4000.0, 6000.0], [300.0, 200.0]),
        ([1000.0, 10.0, 1010.0], [None, 100.0]),  # its driver was loaded again
        ([None, 1000.0, 3000.0], [None, 200.0]),
        ([1000.0, None, 3000.0], [None, None]),
    ],
)
def test_power_is_the_mean_since_the_sample_before(
    readings: list[float | None], expected: list[float | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / JOURNAL).write_text("")
    clock = iter(range(100, 200, 10))
    meter = iter(readings)
    monkeypatch.setattr(sampler, "_energy", lambda: (float(next(clock)), next(meter)))
    made = sampler.Sampler(tmp_path)
    for _ in expected:
        made.next = 0.0
        made.sample()
    lines = [json.loads(line)["metrics"] for line in (tmp_path / JOURNAL).read_text().splitlines()]
    assert [metrics.get(gpus.WATTS) for metrics in lines] == expected


def test_the_package_is_the_one_that_the_extra_installs() -> None:
    """Its functions by these very names; without a driver it says so and nothing is recorded."""
    pynvml = pytest.importorskip("pynvml", reason="needs the extra `train`")
    assert {name for name in vars(NVML) if not hasattr(pynvml, name)} == set()


MOUNTS = {
    1: "33 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory",
    2: "30 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup rw",
}


@pytest.mark.parametrize(
    ("version", "files", "expected"),
    [
        (2, {"memory.current": "1000\n", "memory.stat": "anon 600\ninactive_file 300\n"}, 700),
        (2, {"memory.current": "1000\n"}, 1000),
        (2, {}, None),
        (1, {"memory.usage_in_bytes": "900\n", "memory.stat": "inactive_file 1\ntotal_inactive_file 200\n"}, 700),
    ],
)
def test_memory_is_the_containers(version: int, files: dict[str, str], expected: int | None, tmp_path: Path) -> None:
    folder = tmp_path / "sys/fs/cgroup" / ("memory" if version == 1 else "")
    for name, text in {
        tmp_path / "proc/self/cgroup": "4:memory:/\n0::/\n",
        tmp_path / "proc/self/mountinfo": MOUNTS[version],
        **{folder / name: text for name, text in files.items()},
    }.items():
        name.parent.mkdir(parents=True, exist_ok=True)
        name.write_text(text)
    assert control_groups.memory_bytes(tmp_path) == expected


def test_the_first_sample_of_a_busy_processor_is_not_zero(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / JOURNAL).write_text("")
    made = sampler.Sampler(tmp_path)
    made.next = 0.0
    total = sum(number * number for number in range(3_000_000))
    assert total
    made.sample()
    [record] = [json.loads(line) for line in (tmp_path / JOURNAL).read_text().splitlines()]
    assert record["metrics"]["system/cpu_percent"] > 0
