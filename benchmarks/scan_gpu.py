"""The GPU scan: checked against float64, timed beside mamba-ssm's CUDA kernel and the VMamba-style chain around it.

    python -m benchmarks.scan_gpu --json results.json [--mamba-source DIR] [--quick]

One run builds, checks and times everything. `--mamba-source` is an unpacked mamba-ssm source distribution; of it only
csrc/selective_scan is built, for bfloat16, while the checks run. Without it the installed package is used, and without
that the peers are left out and the run says so. Times are medians of CUDA graph replays: launch cost from Python is in
none of them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from benchmarks.scan_gpu_peers import Peers
from hymunet.ops import reference, ss2d

N = 16
SHAPES = ((256, 32, 32), (512, 16, 16), (384, 32, 32), (768, 16, 16))
BATCHES = (1, 24, 64)
CASES = (
    (2, 16, 16, 256, 8, 16),
    (1, 32, 32, 256, 8, 16),
    (1, 7, 11, 40, 3, 5),
    (3, 16, 5, 130, 16, 16),
    (2, 16, 9, 96, 24, 16),
)
"""B, H, W, C, R, N of the checks: one pass and segmented, chunks that fit the columns and chunks that do not, steps by
multiply-adds and by the matrix units."""
LIMITS = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1e-2}
"""Relative error, in the norm, against float64."""


def inputs(B: int, H: int, W: int, C: int, R: int, dtype: torch.dtype, states: int = N, seed: int = 0) -> list[Tensor]:
    """Arguments of `ss2d` in the range a trained model shows, on the GPU."""
    g = torch.Generator("cuda").manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, device="cuda", generator=g)

    A = (
        -torch.arange(1, states + 1, device="cuda").float().expand(4, C, states)
        * (1 + 0.1 * normal(4, C, states)).abs()
    )
    return [
        normal(B, H, W, C).to(dtype),
        (0.5 * normal(B, H, W, 4, R + 2 * states)).to(dtype),
        A.contiguous(),
        0.3 * normal(4, C, R),
        normal(4, C) - 3,
        1 + 0.1 * normal(4, C),
    ]


def check(B: int, H: int, W: int, C: int, R: int, states: int, dtype: torch.dtype) -> dict[str, Any]:
    """Relative errors of the output and the six gradients against the float64 reference, and bitwise repeatability."""
    names = ("y", "x", "proj", "A", "dt_weight", "dt_bias", "D")
    args = inputs(B, H, W, C, R, dtype, states, seed=B + H)
    gy = torch.randn_like(args[0])
    exact_args = [t.double().requires_grad_() for t in args]
    exact_y = reference.ss2d(*exact_args)
    exact = [exact_y, *torch.autograd.grad(exact_y, exact_args, gy.double())]
    runs = []
    for _ in range(2):
        leaves = [t.clone().requires_grad_() for t in args]
        y = ss2d(*leaves, backend="triton")
        runs.append([y, *torch.autograd.grad(y, leaves, gy)])
    errors = {
        name: ((got.double() - want).norm() / want.norm().clamp_min(1e-30)).item()
        for name, got, want in zip(names, runs[0], exact, strict=True)
    }
    return {
        "shape": [B, H, W, C, R, states],
        "dtype": str(dtype).removeprefix("torch."),
        "errors": errors,
        "limit": LIMITS[dtype],
        "ok": all(e <= LIMITS[dtype] for e in errors.values()),
        "bitwise": all(torch.equal(a, b) for a, b in zip(*runs, strict=True)),
    }


def check_compile() -> bool:
    """A module around the op compiles whole and gives the eager result."""

    class Block(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.project = torch.nn.Linear(64, 4 * (4 + 2 * N))
            self.A_log = torch.nn.Parameter(torch.rand(4, 64, N))
            self.weight = torch.nn.Parameter(torch.randn(4, 64, 4) * 0.1)
            self.bias = torch.nn.Parameter(torch.randn(4, 64))
            self.D = torch.nn.Parameter(torch.ones(4, 64))

        def forward(self, x: Tensor) -> Tensor:
            proj = self.project(x).unflatten(-1, (4, -1))
            return ss2d(x, proj, -self.A_log.exp(), self.weight, self.bias, self.D, backend="triton")

    block = Block().cuda()
    x = torch.randn(2, 16, 16, 64, device="cuda")
    compiled = torch.compile(block, fullgraph=True)
    want, got = block(x), compiled(x)
    got.sum().backward()
    return torch.allclose(want, got, rtol=1e-4, atol=1e-4) and all(p.grad is not None for p in block.parameters())


def milliseconds(run: Callable[[], Any], budget: float = 0.25) -> float:
    """Median over CUDA graph replays of `run`."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    times: list[float] = []
    stop = time.monotonic() + budget
    while len(times) < 20 or (time.monotonic() < stop and len(times) < 200):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end))
    return statistics.median(times)


@triton.jit
def _exp2_kernel(out, rounds, BLOCK: tl.constexpr):
    value = tl.arange(0, BLOCK).to(tl.float32) * 1e-3
    for _ in range(rounds):
        for _unrolled in tl.static_range(16):
            value = tl.exp2(value)
    tl.store(out + tl.program_id(0) * BLOCK + tl.arange(0, BLOCK), value)


def ceilings() -> dict[str, float]:
    """Copy bandwidth (bytes read and written per second) and exponentials per second of this card."""
    source = torch.randn(2**28, device="cuda")
    target = torch.empty_like(source)
    copy = milliseconds(lambda: target.copy_(source))
    rounds, programs, block = 256, 132 * 16, 1024
    out = torch.empty(programs * block, device="cuda")
    exp2 = milliseconds(lambda: _exp2_kernel[(programs,)](out, rounds, BLOCK=block, num_warps=4))
    return {
        "copy_TB_per_s": 2 * source.nbytes / copy / 1e9,
        "exp2_T_per_s": programs * block * rounds * 16 / exp2 / 1e9,
    }


def measure(name: str, forward: Callable[..., Tensor], args: Sequence[Tensor], grad: Tensor) -> dict[str, Any]:
    """Forward, and forward with backward, of one implementation."""
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    leaves = [t.detach().clone().requires_grad_() for t in args]

    def both() -> None:
        torch.autograd.grad(forward(*leaves), leaves, grad)

    result = {
        "peer": name,
        "forward_ms": milliseconds(lambda: forward(*args)),
        "forward_backward_ms": milliseconds(both),
    }
    return {**result, "peak_memory_MiB": (torch.cuda.max_memory_allocated() - before) / 2**20}


def compare(B: int, C: int, H: int, W: int, peers: Peers | None, exp2_per_s: float) -> list[dict[str, Any]]:
    R = C // 32
    args = inputs(B, H, W, C, R, torch.bfloat16)
    rows = [
        measure("hymunet triton", lambda *a: ss2d(*a, backend="triton"), args, torch.randn_like(args[0])),
    ]
    if peers:
        chain = peers.chain_arguments(*args)
        rows.append(measure("VMamba-style chain", peers.chain, chain, torch.randn_like(chain[0])))
        bare = peers.bare_arguments(*chain)
        rows.append(measure("mamba-ssm CUDA kernel", peers.bare, bare, torch.randn_like(bare[0])))
    floor = B * 4 * H * W * C * N / exp2_per_s * 1e3
    label = {"shape": {"B": B, "D": C, "L": H * W, "N": N, "R": R}, "dtype": "bfloat16", "exponential_floor_ms": floor}
    for row in rows:
        row.update(label)
        row["forward_over_floor"] = row["forward_ms"] / floor
        row["forward_backward_over_floor"] = row["forward_backward_ms"] / (2 * floor)
    return rows


def compile_kernels(B: int, H: int, W: int, C: int, R: int) -> None:
    """Leaves the kernels of a shape that will be timed in Triton's cache."""
    args = [t.requires_grad_() for t in inputs(B, H, W, C, R, torch.bfloat16)]
    with torch.no_grad():
        ss2d(*args, backend="triton")
    ss2d(*args, backend="triton").float().sum().backward()


JOBS: list[tuple[Callable[..., Any], tuple[Any, ...]]] = [
    *((compile_kernels, (B, h, w, c, c // 32)) for c, h, w in SHAPES for B in BATCHES),
    *((check, (*case, dtype)) for case in CASES for dtype in LIMITS),
    (check_compile, ()),
]
"""Each runs in a process of its own, all at once: within one, kernels compile one after the other, and torch.compile
moves Triton's cache."""


def run_jobs() -> dict[str, list[Any]]:
    """The results of all `JOBS`, by the name of the function."""
    worker = [sys.executable, "-m", "benchmarks.scan_gpu", "--job"]
    workers = [subprocess.Popen([*worker, str(i)], stdout=subprocess.PIPE, text=True) for i in range(len(JOBS))]
    outputs = [w.communicate()[0] for w in workers]
    failed = [i for i, w in enumerate(workers) if w.returncode]
    if failed:
        raise SystemExit(f"failed, see above: {', '.join(f'--job {i}' for i in failed)}")
    results: dict[str, list[Any]] = {}
    for (function, _), output in zip(JOBS, outputs, strict=True):
        results.setdefault(function.__name__, []).append(json.loads(output.splitlines()[-1]))
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write everything measured to this file")
    parser.add_argument(
        "--mamba-source", type=Path, help="unpacked mamba-ssm source distribution to build the peer from"
    )
    parser.add_argument("--quick", action="store_true", help="two shapes, two batches")
    parser.add_argument("--job", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("no CUDA device is visible: nothing to measure", file=sys.stderr)
        return 2
    if options.job is not None:
        function, arguments = JOBS[options.job]
        print(json.dumps(function(*arguments)))
        return 0

    built: dict[str, Any] = {}

    def build() -> None:
        try:
            built["peers"] = Peers.load(options.mamba_source)
        except Exception as error:  # a peer that does not build must not cost the run
            built["error"] = str(error)[-2000:]

    builder = threading.Thread(target=build)
    builder.start()
    shapes = SHAPES[:2] if options.quick else SHAPES
    batches = BATCHES[:2] if options.quick else BATCHES
    began = time.monotonic()
    results = run_jobs()
    print(f"compiled and checked after {time.monotonic() - began:.0f} s", flush=True)
    record: dict[str, Any] = {
        "card": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "triton": triton.__version__,
        "checks": results["check"],
        "compile_fullgraph": results["check_compile"][0],
    }

    def save() -> None:
        if options.json:
            options.json.parent.mkdir(parents=True, exist_ok=True)
            temporary = options.json.with_suffix(".tmp")
            temporary.write_text(json.dumps(record, indent=1) + "\n")
            os.replace(temporary, options.json)

    for case in record["checks"]:
        errors = " ".join(f"{k}={v:.0e}" for k, v in case["errors"].items())
        print("ok " if case["ok"] and case["bitwise"] else "BAD", case["shape"], case["dtype"], errors, flush=True)
    print("torch.compile(fullgraph=True):", record["compile_fullgraph"], flush=True)
    record["ceilings"] = ceilings()
    print(record["ceilings"], flush=True)
    save()
    builder.join()
    if "error" in built:
        record["peer_error"] = built["error"]
        print("peers left out:", built["error"][-600:], flush=True)
    print(f"peers ready after {time.monotonic() - began:.0f} s", flush=True)
    record["times"] = []
    for C, H, W in shapes:
        for B in batches:
            rows = compare(B, C, H, W, built.get("peers"), record["ceilings"]["exp2_T_per_s"] * 1e12)
            record["times"] += rows
            save()
            for row in rows:
                print(
                    f"B={B:<3d} D={C:<4d} L={H * W:<5d} {row['peer']:22s} {row['forward_ms']:8.4f} "
                    f"{row['forward_backward_ms']:8.4f} ms  x floor {row['forward_over_floor']:.2f} "
                    f"{row['forward_backward_over_floor']:.2f}  {row['peak_memory_MiB']:.0f} MiB",
                    flush=True,
                )
    good = all(c["ok"] and c["bitwise"] for c in record["checks"]) and record["compile_fullgraph"]
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
