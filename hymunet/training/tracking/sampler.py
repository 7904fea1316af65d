"""The machine's load, beside the metrics of the training that causes it."""

import contextlib
import time
from pathlib import Path

from hymunet import control_groups
from hymunet.training.tracking import gpus
from hymunet.training.tracking.journal import append, parse
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
        self.energy = _energy()
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
            **gpus.load(),
            **self._watts(),
        }
        with contextlib.suppress(OSError), self.path.open("a+b", buffering=0) as file:
            append(file, {"step": self.count, "metrics": values})
        self.count += 1

    def _watts(self) -> dict[str, float]:
        """What the GPUs drew on average since the sample before, by their own meters."""
        (then, before), (now, after) = self.energy, _energy()
        self.energy = now, after
        if before is None or after is None or after < before:  # a meter begins anew with its driver
            return {}
        return {gpus.WATTS: (after - before) / (now - then)}


def _energy() -> tuple[float, float | None]:
    return time.monotonic(), gpus.joules()
