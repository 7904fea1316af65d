"""What the GPUs that a training sees say of themselves, by NVML."""

import os
from collections.abc import Mapping
from typing import Any

WATTS = "system/gpu_watts"  # by this name in MLflow


def load(environment: Mapping[str, str] = os.environ) -> dict[str, float]:
    """Their load on average, their memory in sum; nothing where there are none."""
    try:
        import pynvml

        pynvml.nvmlInit()
        handles = visible(pynvml, environment.get("CUDA_VISIBLE_DEVICES"))
        if not handles:
            return {}
        busy = [float(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu) for handle in handles]
        memory = [float(pynvml.nvmlDeviceGetMemoryInfo(handle).used) for handle in handles]
        return {"system/gpu_percent": sum(busy) / len(busy), "system/gpu_memory_bytes": sum(memory)}
    except Exception:  # no such package, no such driver, no such GPU
        return {}


def joules(environment: Mapping[str, str] = os.environ) -> float | None:
    """What they have used since their driver started, whatever ran on them; None where there are none with a meter."""
    try:
        import pynvml

        pynvml.nvmlInit()
        handles = visible(pynvml, environment.get("CUDA_VISIBLE_DEVICES"))
        millijoules = [pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) for handle in handles]
    except Exception:  # no such package, no such driver, no meter (before Volta, in a part of a GPU)
        return None
    return sum(millijoules) / 1000 if millijoules else None


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
