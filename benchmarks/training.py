"""The training loop beside the loops that papers ship, and what each of its guarantees costs.

Each loop (benchmarks.training_loops) is a process of its own; they take turns, step by step, so that all meet the same
machine. Time is processor time of the process on one thread: what else runs on the machine does not count, and the
ratio is that of the images per second of a machine left alone. Originals are drawn, as large as ISIC's.

`python -m benchmarks.training --json benchmarks/results/training.json`
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.training_guarantees import guarantees, tracking
from benchmarks.training_loops import HEIGHT, LOOPS, ROOT, WIDTH, write_inputs


class Loop:
    """A loop in a process of its own, which takes a step when told to."""

    def __init__(self, name: str, folder: Path, size: str, batch_size: int, pixels: int) -> None:
        self.seconds: list[float] = []
        self.peak_MiB = 0
        command = [sys.executable, "-m", "benchmarks.training_loops", name, folder, size, batch_size, pixels]
        self.process = subprocess.Popen(
            [str(part) for part in command], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def step(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        answer = json.loads(self._answer())
        self.seconds.append(answer["seconds"])
        self.peak_MiB = answer["peak_MiB"]

    def wait_until_ready(self) -> None:
        self._answer()

    def _answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline() or sys.exit("a loop has died; its message stands above")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


def compare(folder: Path, size: str, batch_size: int, pixels: int, rounds: int) -> dict[str, Any]:
    """Images per second, ratio and peak memory of each loop, the first step, which imports and allocates, left out."""
    loops = {name: Loop(name, folder, size, batch_size, pixels) for name in LOOPS}
    try:
        for loop in loops.values():
            loop.wait_until_ready()
        for _ in range(rounds):
            for loop in loops.values():
                loop.step()
    finally:
        for loop in loops.values():
            loop.close()
    ours = loops["ours"].seconds
    return {
        name: {
            "images_per_cpu_second": round(batch_size / statistics.median(loop.seconds), 2),
            "ours_is_faster_by": _ratio(ours, loop.seconds),
            "peak_memory_MiB": loop.peak_MiB,
        }
        for name, loop in loops.items()
    }


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """Of the medians, and the lowest and highest of one turn."""
    turns = [b / a for a, b in zip(ours, theirs, strict=False)]
    median = statistics.median(theirs) / statistics.median(ours)
    return {"median": round(median, 2), "low": round(min(turns), 2), "high": round(max(turns), 2)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures; those of parts that are not run stay in it")
    parser.add_argument("--sizes", nargs="*", default=["small", "base", "large"])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--pixels", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5, help="turns that each loop takes")
    parser.add_argument("--pairs", type=int, default=50, help="of steps, sums in a fixed order or not; 0: none")
    parser.add_argument("--tracking", type=float, default=60.0, help="seconds with each kind of server; 0: none")
    arguments = parser.parse_args()
    from hymunet.precision import computes_in_bfloat16
    from hymunet.training import device

    result: dict[str, Any] = {"models": {}}
    if arguments.json and arguments.json.exists():
        result = json.loads(arguments.json.read_text())
    result |= {
        "machine": device.describe(torch.device("cpu")),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "bfloat16_in_hardware": computes_in_bfloat16(torch.device("cpu")),
        "batch": arguments.batch,
        "pixels": arguments.pixels,
        "originals": f"{WIDTH}x{HEIGHT}",
    }
    with tempfile.TemporaryDirectory(prefix="hymunet-benchmark-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        write_inputs(folder, arguments.pixels)
        for size in arguments.sizes:
            outcome = compare(folder, size, arguments.batch, arguments.pixels, arguments.rounds)
            result["models"][f"hymunet {size}"] = outcome
            print(f"hymunet {size}: {json.dumps(outcome)}", flush=True)
        if arguments.pairs:
            result["guarantees_per_cent"] = guarantees(folder, arguments.batch, arguments.pairs)
            print(f"guarantees, per cent: {json.dumps(result['guarantees_per_cent'])}", flush=True)
        if arguments.tracking:
            result["tracking"] = tracking(folder, arguments.batch, arguments.tracking)
            print(f"tracking: {json.dumps(result['tracking'])}", flush=True)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
