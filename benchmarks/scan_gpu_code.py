"""What the scan's kernels compile to for compute capability 9.0, read without a GPU:

    python -m benchmarks.scan_gpu_code

Registers, bytes of stack (spills), and the instructions of the loop over chunks, which is unrolled within a chunk, over
the state updates of one chunk.
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

from hymunet.ops import triton as backend
from hymunet.ops.triton_backward import backward_kernel
from hymunet.ops.triton_forward import scan_kernel

TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
N = 16
BFLOAT16 = dict.fromkeys(("x", "proj", "grad_y", "part", "dx", "drows", "out", "dproj"), "*bf16")


def compiled(kernel: Any, types: dict[str, str], options: dict[str, Any] | None = None, **constants: Any) -> Any:
    """`kernel` with the promises of alignment that a launch makes for tensors from torch and sizes that 16 divides.
    `types` names the pointers that are not to float32."""
    integers = ("H", "W", "C", "L", "size", "parts", "segments", "chunks")
    types = {"turns": "*i32"} | dict.fromkeys(integers, "i32") | types
    signature = {a: "constexpr" if a in constants else types.get(a, "*fp32") for a in kernel.arg_names}
    unaligned = {p.name for p in kernel.params if p.do_not_specialize_on_alignment} | {"segments", "chunks", *constants}
    hints = {(i,): [["tt.divisibility", 16]] for i, a in enumerate(kernel.arg_names) if a not in unaligned}
    source = ASTSource(kernel, signature=signature, constexprs=constants, attrs=hints)
    options = options or {"num_warps": 1, **backend.OPTIONS}
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)


def report(
    name: str, kernel: Any, channels: int, own: int, R: int, options: dict[str, Any] | None = None, **constants: Any
) -> None:
    constants |= backend.constants(R, N, own, channels, aligned=True, prefetch=True) | {"SEGMENTED": False}
    code = compiled(kernel, BFLOAT16, options, **constants)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(code.asm["cubin"])
        file.flush()
        usage, listing = (
            subprocess.run([TOOLS / "cuobjdump", flag, file.name], capture_output=True, text=True, check=True).stdout
            for flag in ("-res-usage", "-sass")
        )
    registers, stack = re.findall(r"REG:(\d+) STACK:(\d+)", usage)[-1]
    loop = longest_loop(listing)
    updates = backend.CHUNK * own * channels // 32
    found = Counter(loop)
    kinds = " ".join(f"{kind} {found[kind] / updates:.2f}" for kind in ("MUFU", "FFMA", "FMUL", "SHFL", "LDL", "STL"))
    print(
        f"{name:9s} {channels:>3d} channels {own:>2d} states R={R:<2d} registers {registers} stack {stack} B, "
        f"{len(loop)} instructions a chunk, per state update {len(loop) / updates:.1f} ({kinds})",
        flush=True,
    )


def longest_loop(listing: str) -> list[str]:
    """The names of the instructions from the target of the branch that jumps back furthest to that branch."""
    lines = re.findall(r"/\*([0-9a-f]{4,5})\*/\s+(?:@!?U?P\d+ )?\s*([A-Z0-9]+)[^;]*?(?:(0x[0-9a-f]+) )?;", listing)
    at = {int(address, 16): index for index, (address, _, _) in enumerate(lines)}
    jumps = [
        (at[int(target, 16)], index)
        for index, (_, name, target) in enumerate(lines)
        if name == "BRA" and target and int(target, 16) in at
    ]
    first, last = max(jumps, key=lambda jump: jump[1] - jump[0])
    return [name for _, name, _ in lines[first : last + 1]]


def main() -> int:
    for channels, R in ((32, 8), (32, 24), (64, 8)):
        report("forward", scan_kernel, channels, N, R, backend.options(channels, 1), KEEP=True)
    for R in (8, 12, 24):
        report("backward", backward_kernel, 32, 8, R, RELAY=False, EXACT=False, RANKS=backend.padded(max(16, R)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
