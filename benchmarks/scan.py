"""The selective scan beside its peers, in one run: time, memory, growth with the sizes, and distance from the limit.

    python -m benchmarks.scan [--json FILE] [--device cpu|cuda] [--quick] [--threads N]

Each peer runs in a process of its own, in turn with our kernel, and both times in its row are medians of that process:
what else the machine does at the time weighs on both. With `--threads 1` times are processor time, which a busy machine
hardly disturbs; distance from the limit and growth are always taken so. `--device cuda` hands over to
benchmarks.scan_gpu.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SHAPE = (1, 32, 32, 256, 8, 16)
QUICK_SHAPE = (1, 16, 16, 64, 4, 16)
"""B, H, W, C, R, N."""
OURS = "hymunet cpu"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write one object per peer, and the rest of what was measured")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--quick", action="store_true", help="a small shape")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="default: all cores")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)  # read by torch when it is imported, below
    if options.device == "cuda":
        flags = [*(["--quick"] if options.quick else []), *(["--json", str(options.json)] if options.json else [])]
        os.execv(sys.executable, [sys.executable, "-m", "benchmarks.scan_gpu", *flags])
    shape = QUICK_SHAPE if options.quick else SHAPE
    if options.worker:
        print(json.dumps(measure(options.worker, shape)))
        return 0
    return report(shape, options)


def report(shape: tuple[int, ...], options: argparse.Namespace) -> int:
    import torch

    from benchmarks.scan_peers import PEERS
    from hymunet.ops import cpu

    if reason := cpu.unavailable("cpu"):
        print(f"the CPU kernel cannot be measured: {reason}", file=sys.stderr)
        return 1
    record: dict[str, Any] = {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "instruction_set": cpu.instruction_sets()[0],
        "peers": [],
    }
    print(f"B, H, W, C, R, N = {shape}, float32, {record['threads']} threads, {record['instruction_set']}")
    print(f"{'':30s}{'forward':>12s}{'forward+backward':>18s}{'extra memory, MiB':>20s}   (times: multiple of ours)")
    for name in PEERS:
        row = _in_process(name, options)
        record["peers"].append(row)
        if "missing" in row:
            print(f"{name:30s}  left out: {row['missing']}")
            continue
        times = (f"{row[key] / row['ours'][key]:.1f}" if row[key] else "fails" for key in ("forward_ms", "both_ms"))
        memory = " / ".join(f"{row[key]:.0f}" for key in ("forward_mib", "both_mib"))
        print("{:30s}{:>12s}{:>18s}{:>20s}".format(name, *times, memory), flush=True)
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    record["limit"] = distance_from_limit(shape)
    print(
        "limit: forward {forward_over_limit:.2f}, backward over forward {backward_over_forward:.2f}, "
        "{exp2_per_ns:.2f} exponentials per ns in the bare loop".format(**record["limit"])
    )
    record["growth"] = growth(shape)
    for row in record["growth"]:
        print(
            "{vary} = {value:5d}: forward {forward_ps:.1f}, forward+backward {both_ps:.1f} ps per state update".format(
                **row
            )
        )
    if options.json:
        temporary = options.json.with_suffix(".tmp")
        temporary.write_text(json.dumps(record, indent=1) + "\n")
        os.replace(temporary, options.json)
    return 0


def _in_process(name: str, options: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.scan", "--worker", name, "--threads", str(options.threads)]
    command += ["--quick"] if options.quick else []
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure(name: str, shape: tuple[int, ...]) -> dict[str, Any]:
    """One peer: correctness against our kernel, then memory, then times in turn with our kernel."""
    import torch

    from benchmarks.scan_peers import PEERS, arguments, merge

    row: dict[str, Any] = {"peer": name, "shape": shape, "dtype": "float32"}
    try:
        scan = PEERS[name]()
    except ImportError as error:
        return row | {"missing": str(error)}
    ours, inputs, peer_inputs = PEERS[OURS](), arguments(OURS, shape), arguments(name, shape)
    with torch.no_grad():
        y, wanted = scan(*peer_inputs), ours(*inputs)
    y = y if name.startswith("hymunet") else merge(y, *shape[1:3])
    row["error"] = ((y - wanted).abs().max() / wanted.abs().max()).item()
    assert row["error"] < 1e-4, row
    row["ours"] = {}
    for part, make in (("forward", _forward), ("both", _both)):
        peer, own = make(scan, peer_inputs), make(ours, inputs)
        own()
        try:
            if name.endswith("compiled"):
                peer()
            row[f"{part}_mib"], first = _extra_memory(peer)
        except (RuntimeError, NotImplementedError) as error:
            row |= {f"{part}_mib": float("nan"), f"{part}_ms": None, f"{part}_fails": str(error).splitlines()[0]}
            continue
        row[f"{part}_ms"], row["ours"][f"{part}_ms"] = _in_turn(peer, own, first)
    return row


def _forward(scan: Callable, inputs: list) -> Callable[[], None]:
    import torch

    def run() -> None:
        with torch.no_grad():
            scan(*inputs)

    return run


def _both(scan: Callable, inputs: list) -> Callable[[], None]:
    import torch

    leaves = [tensor.clone().requires_grad_() for tensor in inputs]

    def run() -> None:
        y = scan(*leaves)
        torch.autograd.grad(y, leaves, torch.ones_like(y))

    return run


SLOW_MS = 10_000.0


def _in_turn(peer: Callable[[], None], ours: Callable[[], None], first: float) -> tuple[float, float]:
    """Median milliseconds of each, ours run around every run of the peer; of a slow peer the first run is enough."""
    theirs = [first] if first > SLOW_MS else []
    own = [_timed(ours) for _ in range(10)]
    start = time.perf_counter()
    while not theirs or (first < SLOW_MS and time.perf_counter() - start < 12 and len(theirs) < 60):
        theirs.append(_timed(peer))
        own.extend(_timed(ours) for _ in range(5))
    return statistics.median(theirs), statistics.median(own)


def _timed(run: Callable[[], Any]) -> float:
    clock = time.process_time if os.environ["OMP_NUM_THREADS"] == "1" else time.perf_counter
    start = clock()
    run()
    return (clock() - start) * 1e3


def _extra_memory(run: Callable[[], None]) -> tuple[float, float]:
    """MiB by which one run raises the peak of the process's resident memory (Linux; NaN elsewhere), and its ms."""
    status, clear = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not clear.exists():
        return float("nan"), _timed(run)
    ctypes.CDLL(None).malloc_trim(0)
    clear.write_text("5")
    before = _kib(status, "VmRSS")
    took = _timed(run)
    return (_kib(status, "VmHWM") - before) / 1024, took


def _kib(status: Path, key: str) -> int:
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(key))


def distance_from_limit(shape: tuple[int, ...]) -> dict[str, float]:
    """Our times on one thread against the bare inner loop, in turn: the best of 150 rounds of each."""
    from benchmarks.scan_peers import PEERS, arguments
    from hymunet.ops import cpu

    scan, inputs = PEERS[OURS](), arguments(OURS, shape)
    forward, both, rounds = _forward(scan, inputs), _both(scan, inputs), 500
    made = cpu.peak_updates(rounds)
    times = [[_timed(run) for run in (lambda: cpu.peak_updates(rounds), forward, both)] for _ in range(150)]
    bare_ms, forward_ms, both_ms = (min(column) for column in zip(*times, strict=True))
    rate = made / bare_ms
    return {
        "exp2_per_ns": rate / 1e6,
        "forward_over_limit": forward_ms / (_updates(shape) / rate),
        "backward_over_forward": (both_ms - forward_ms) / forward_ms,
    }


def growth(shape: tuple[int, ...]) -> list[dict[str, Any]]:
    """Picoseconds per state update on one thread (best of 9) as one size grows: flat where time is proportional."""
    from benchmarks.scan_peers import PEERS, arguments

    B, H, W, C, R, N = shape
    cases = [
        *(("L", side * side, (B, side, side, C, R, N)) for side in (8, 16, 32, 64)),
        *(("D", width, (B, H, W, width, R, N)) for width in (32, 64, 128, 256, 512, 1024)),
        *(("B", batch, (batch, H, W, C, R, N)) for batch in (1, 2, 4, 8)),
    ]
    rows = []
    for vary, value, case in cases:
        inputs = arguments(OURS, case)
        forward, both = _forward(PEERS[OURS](), inputs), _both(PEERS[OURS](), inputs)
        forward(), both()
        times = [min(_timed(run) for _ in range(9)) for run in (forward, both)]
        forward_ps, both_ps = (ms * 1e9 / _updates(case) for ms in times)
        rows.append({"vary": vary, "value": value, "forward_ps": forward_ps, "both_ps": both_ps})
    return rows


def _updates(shape: tuple[int, ...]) -> int:
    B, H, W, C, _, N = shape
    return B * H * W * 4 * C * N


if __name__ == "__main__":
    sys.exit(main())
