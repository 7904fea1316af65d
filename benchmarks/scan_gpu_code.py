"""What the scan's kernels compile to for compute capability 9.0, read without a GPU:

    python -m benchmarks.scan_gpu_code

Registers, bytes of stack (spills), and the instructions of the whole kernel over the state updates of one chunk: the
loop body is one chunk, unrolled, and nearly all of the kernel.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from hymunet.ops.triton_backward import backward_kernel
from hymunet.ops.triton_forward import scan_kernel
from hymunet.ops.triton_walk import CHUNK

TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
N = 16


def report(name: str, kernel: Any, tile: tuple[int, int], own: int, R: int, **constants: Any) -> None:
    rank = 1 << (R - 1).bit_length()
    sectors = 1 << (R + 2 * N - 1).bit_length()
    constants |= {"R": R, "N": N, "OWN": own, "RP": rank, "NP": own, "BC": tile[0], "CH": CHUNK, "ALIGNED": True}
    constants |= {"SEGMENTED": False, "SECTORS": sectors, "PREFETCH": True}
    types = dict.fromkeys(("x", "grad_y", "part", "dx", "drows"), "*bf16")
    integers = ("H", "W", "C", "segments", "chunks")
    signature = {
        a: "constexpr" if a in constants else "i32" if a in integers else types.get(a, "*fp32")
        for a in kernel.arg_names
    }
    hints = {(kernel.arg_names.index(a),): [["tt.divisibility", 16]] for a in ("rows", "H", "W", "C")}
    source = ASTSource(kernel, signature=signature, constexprs=constants, attrs=hints)
    code = triton.compile(
        source,
        target=GPUTarget("cuda", 90, 32),
        options={"num_warps": tile[1], "num_stages": 1, "enable_fp_fusion": True},
    )
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(code.asm["cubin"])
        file.flush()
        usage, listing = (
            subprocess.run([TOOLS / "cuobjdump", flag, file.name], capture_output=True, text=True, check=True).stdout
            for flag in ("-res-usage", "-sass")
        )
    registers, stack = re.findall(r"REG:(\d+) STACK:(\d+)", usage)[-1]
    found = Counter(re.findall(r"/\*[0-9a-f]{4,5}\*/\s+(?:@!?U?P\d+ )?([A-Z0-9]+)", listing))
    updates = CHUNK * own * tile[0] // (32 * tile[1])
    kinds = " ".join(f"{kind} {found[kind] / updates:.2f}" for kind in ("MUFU", "FFMA", "FMUL", "SHFL", "LDL", "STL"))
    print(
        f"{name:9s} {tile[0]:>3d} channels {tile[1]} warps {own:>2d} states R={R:<2d} registers {registers} "
        f"stack {stack} B, instructions per state update {sum(found.values()) / updates:.1f} ({kinds})",
        flush=True,
    )


def main() -> int:
    for R in (8, 16):
        report("forward", scan_kernel, (32, 1), N, R, KEEP=True)
    report("forward", scan_kernel, (64, 1), N, 8, KEEP=True)
    for R in (8, 16):
        report("backward", backward_kernel, (64, 2), 8, R, EXACT=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
