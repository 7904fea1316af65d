"""The scan's share of a HyM-UNet training step on the CPU, with and without its kernel, and the plain U-Net beside it.

    python -m benchmarks.training_step [--batch 4] [--size 128] [--rounds 5] [--json FILE]

The steps take turns on one thread, and the medians of their processor time, which a busy machine hardly disturbs, are
printed as ratios. A backend's share is what its step takes beyond the step with our kernel, whose own two operators the
profiler times.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures")
    options = parser.parse_args()
    record = measure(options.batch, options.size, options.rounds)
    print(f"batch {options.batch} at {options.size}x{options.size}, float32, one thread")
    for name in ("cpu", "export"):
        share, step = record["share"][name], record["step"][name]
        print(f"HyM-UNet with the {name} scan: share {share:.1%}, step {step:.2f} of the U-Net's")
    if options.json:
        options.json.write_text(json.dumps(record, indent=1) + "\n")
    return 0


def measure(batch: int, size: int, rounds: int) -> dict[str, Any]:
    import torch
    from torch.profiler import ProfilerActivity, profile

    from hymunet import models
    from hymunet.models.protocols import scans

    torch.set_num_threads(1)
    torch.manual_seed(0)
    hymunet, unet = (
        models.build(models.section(section), size).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for section in ({"name": "hymunet", "size": "small", "drop_path": 0.0}, {"name": "unet", "size": "small"})
    )
    images = torch.randn(batch, 3, size, size).contiguous(memory_format=torch.channels_last)
    target = (torch.rand(batch, 1, size, size) > 0.5).float()

    def step(model: torch.nn.Module) -> Callable[[], None]:
        optimizer = torch.optim.AdamW(model.parameters())

        def run() -> None:
            optimizer.zero_grad()
            torch.nn.functional.binary_cross_entropy_with_logits(model(images), target).backward()
            optimizer.step()

        return run

    def use(backend: str) -> None:
        for layer in scans(hymunet):
            layer.backend = backend

    steps = {"hymunet": step(hymunet), "unet": step(unet)}
    times: dict[str, list[float]] = {"cpu": [], "export": [], "unet": []}
    for name in ("warm-up", *["round"] * rounds):
        for backend in ("cpu", "export", "unet"):
            if backend != "unet":
                use(backend)
            start = time.process_time()
            steps["unet" if backend == "unet" else "hymunet"]()
            if name == "round":
                times[backend].append(time.process_time() - start)
    use("cpu")
    with profile(activities=[ProfilerActivity.CPU]) as profiler, torch.profiler.record_function("step"):
        steps["hymunet"]()
    total = {event.key: event.cpu_time_total for event in profiler.key_averages()}
    kernel_share = (total["hymunet::ss2d"] + total["hymunet::ss2d_backward"]) / total["step"]
    median = {name: statistics.median(values) for name, values in times.items()}
    rest = median["cpu"] * (1 - kernel_share)
    return {
        "batch": batch,
        "size": size,
        "share": {"cpu": kernel_share, "export": 1 - rest / median["export"]},
        "step": {name: median[name] / median["unet"] for name in ("cpu", "export")},
    }


if __name__ == "__main__":
    sys.exit(main())
