"""The machine's load, beside the metrics of the training that causes it."""

import contextlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hymunet import control_groups
from hymunet.training.tracking.journal import parse
from hymunet.training.tracking.keeper import JOURNAL

SAMPLE = 15.0  # seconds between samples


class Sampler:
    """Adds the machine's load to the journal, so that it takes the same road as everything else."""

    def __init__(self, folder: Path) -> None:
        import psutil

        self.path = folder / JOURNAL
        records = parse(self.path.read_bytes())
        key = "system/cpu_percent"
        self.count = max((record["step"] for record in records if key in record.get("metrics", {})), default=-1) + 1
        self.next = time.monotonic() + SAMPLE
        psutil.cpu_percent()  # counts from the call before, and the first one has none

    def sample(self) -> None:
        if time.monotonic() < self.next:
            return
        self.next = time.monotonic() + SAMPLE
        import psutil

        memory = control_groups.memory_bytes()
        values = {
            "system/cpu_percent": psutil.cpu_percent(),
            "system/memory_bytes": float(psutil.virtual_memory().used if memory is None else memory),
            **gpu_load(),
        }
        line = json.dumps({"time": time.time_ns() // 1_000_000, "step": self.count, "metrics": values}) + "\n"
        with contextlib.suppress(OSError), self.path.open("ab", buffering=0) as file:
            file.write(line.encode())
        self.count += 1


def gpu_load(environment: Mapping[str, str] = os.environ) -> dict[str, float]:
    """Of the GPUs that the training sees: their load on average, their memory in sum; nothing where there are none."""
    try:
        import pynvml

        pynvml.nvmlInit()
        handles = visible(pynvml, environment.get("CUDA_VISIBLE_DEVICES"))
        if not handles:
            return {}
        load = [float(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu) for handle in handles]
        memory = [float(pynvml.nvmlDeviceGetMemoryInfo(handle).used) for handle in handles]
        return {"system/gpu_percent": sum(load) / len(load), "system/gpu_memory_bytes": sum(memory)}
    except Exception:  # no such package, no such driver, no such GPU
        return {}


def visible(nvml: Any, named: str | None) -> list[Any]:
    """NVML's handles of the GPUs that CUDA_VISIBLE_DEVICES names, by number or UUID; of all where it is not set.

    As CUDA reads it: what follows a name that is not there does not count.
    """
    if named is None:
        return [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
    handles = []
    for name in (part.strip() for part in named.split(",")):
        try:
            by_number = name.lstrip("-").isdecimal()
            handles.append(nvml.nvmlDeviceGetHandleByIndex(int(name)) if by_number else _by_uuid(nvml, name))
        except (nvml.NVMLError, LookupError):
            break
    return handles


def _by_uuid(nvml: Any, start: str) -> Any:
    """A UUID may be shortened as long as it is one GPU's alone."""
    everyone = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
    [found] = [handle for handle in everyone if start and nvml.nvmlDeviceGetUUID(handle).startswith(start)] or [None]
    if found is None:
        raise LookupError(start)
    return found
