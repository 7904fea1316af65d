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
    "many ranks": backend.constants(18, 16, 8, 32, aligned=True, prefetch=True),
    "padded": backend.constants(3, 5, 5, 32, aligned=False, prefetch=True),
}


@pytest.mark.parametrize("shape", ["aligned", "padded"])
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


def test_steps_of_many_ranks_come_from_the_matrix_units() -> None:
    """Their shuffles are a few for a chunk of eight tokens, and none for a token or a state."""
    constants = backend.constants(24, 16, 16, 32, aligned=True, prefetch=True) | {"SEGMENTED": False, "KEEP": True}
    for types, many in ((BFLOAT16, True), ({}, False)):
        ptx = compiled(scan_kernel, types, backend.options(32, 1), **constants).asm["ptx"]
        assert ("mma.sync" in ptx) == many
        assert ptx.count("shfl.sync") <= (16 if many else 0)


@pytest.mark.parametrize(
    ("shape", "relay", "exact"),
    [
        ("aligned", False, False),
        ("padded", False, True),
        pytest.param("padded", True, False, marks=pytest.mark.slow),
        pytest.param("many ranks", True, False, marks=pytest.mark.slow),
    ],
)
def test_the_backward_compiles(shape: str, relay: bool, exact: bool) -> None:
    types = {} if exact else BFLOAT16
    constants = {**SHAPES[shape], "SEGMENTED": relay or exact, "RELAY": relay, "EXACT": exact}
    constants["RANKS"] = backend.padded(max(16, SHAPES[shape]["R"]))
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
