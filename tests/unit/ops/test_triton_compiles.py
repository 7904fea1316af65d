"""The Triton kernels compile for a GPU, which the interpreter does not show. No GPU is needed."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("triton", reason="triton is not installed")

from benchmarks.scan_gpu_code import BFLOAT16, compiled
from hymunet.ops import triton as backend
from hymunet.ops import triton_merge
from hymunet.ops.triton_backward import backward_kernel
from hymunet.ops.triton_forward import combine_kernel, scan_kernel, summary_kernel

SHAPES = {
    "aligned": backend.constants(8, 16, 8, 32, aligned=True, prefetch=True),
    "padded": backend.constants(3, 5, 5, 32, aligned=False, prefetch=True),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("kernel", "constants"),
    [
        (scan_kernel, {"SEGMENTED": True, "KEEP": True}),
        (summary_kernel, {"REVERSE": False}),
        (summary_kernel, {"REVERSE": True}),
    ],
)
def test_a_walk_keeps_its_sums_inside_a_thread(kernel: Any, constants: dict[str, bool], shape: str) -> None:
    """Lanes lie over channels: a shuffle would mean that they had come to lie over states."""
    assert "shfl.sync" not in compiled(kernel, BFLOAT16, **SHAPES[shape], **constants).asm["ptx"]


@pytest.mark.parametrize(
    ("shape", "relay", "exact"), [("aligned", False, False), ("padded", True, False), ("padded", False, True)]
)
def test_the_backward_compiles(shape: str, relay: bool, exact: bool) -> None:
    types = {} if exact else BFLOAT16
    constants = {**SHAPES[shape], "SEGMENTED": relay or exact, "RELAY": relay, "EXACT": exact, "RANKS": 16}
    ptx = compiled(backward_kernel, types, **constants).asm["ptx"]
    assert ("mma.sync" in ptx) == (not exact)


@pytest.mark.parametrize(
    ("name", "constants"),
    [
        ("arrange_kernel", {"R": 8, "N": 16, "BLOCK": 1024}),
        ("merge_kernel", {"PARTS": 8, "BLOCK": 1024}),
        ("merge_rows_kernel", {"R": 8, "N": 16, "SHARES": 2, "BLOCKS": 8, "BLOCK": 1024}),
        ("merge_gradients_kernel", {"R": 8, "N": 16, "OWN": 8, "BC": 32, "PARTS": 16}),
    ],
)
def test_what_goes_before_and_after_compiles(name: str, constants: dict[str, int]) -> None:
    assert compiled(getattr(triton_merge, name), BFLOAT16, **constants).asm["cubin"]


def test_the_combination_of_segments_compiles() -> None:
    assert compiled(combine_kernel, {}, R=8, N=16, SP=32, BC=32, REVERSE=True).asm["cubin"]
