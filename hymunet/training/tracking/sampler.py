"""The machine's load, beside the metrics of the training that causes it."""

import contextlib
import json
import time
from pathlib import Path

from hymunet.training.tracking.journal import parse
from hymunet.training.tracking.keeper import JOURNAL

SAMPLE = 15.0  # seconds between samples


class Sampler:
    """Adds the machine's load to the journal, so that it takes the same road as everything else."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / JOURNAL
        records = parse(self.path.read_bytes())
        key = "system/cpu_percent"
        self.count = max((record["step"] for record in records if key in record.get("metrics", {})), default=-1) + 1
        self.next = time.monotonic() + SAMPLE

    def sample(self) -> None:
        if time.monotonic() < self.next:
            return
        self.next = time.monotonic() + SAMPLE
        import psutil

        values = {
            "system/cpu_percent": psutil.cpu_percent(),
            "system/memory_bytes": float(psutil.virtual_memory().used),
            **_gpu_load(),
        }
        line = json.dumps({"time": time.time_ns() // 1_000_000, "step": self.count, "metrics": values}) + "\n"
        with contextlib.suppress(OSError), self.path.open("ab", buffering=0) as file:
            file.write(line.encode())
        self.count += 1


def _gpu_load() -> dict[str, float]:
    try:
        import pynvml

        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle).used
        return {
            "system/gpu_percent": float(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu),
            "system/gpu_memory_bytes": float(memory),
        }
    except Exception:  # no such package, no such driver, no such GPU
        return {}
