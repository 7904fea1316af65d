"""The Triton kernels on a CPU, under Triton's interpreter, against the float64 reference. Each case is one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from hymunet.ops import selective_scan, ss2d
from hymunet.ops import triton as backend
from tests.unit.ops.cases import Case

pytest.importorskip("triton", reason="triton is not installed")
ROOT = Path(__file__).parents[3]


ALL_AT_ONCE = {"LEAST_CHUNKS": 1}
IN_RELAY = {"BACKWARD_PROGRAMS": 7, "HANDOVER": 0}


@pytest.mark.parametrize(
    ("shape", "dtype", "settings", "segments", "shares"),
    [
        ((1, 3, 5, 3, 3, 3), "float16", {}, 1, 1),  # everything padded: states, rank, channels, the one chunk
        pytest.param(
            (1, 8, 2, 32, 8, 6), "bfloat16", {}, 1, 2, marks=pytest.mark.slow
        ),  # nothing padded, three tiles of ranks, states shared
        pytest.param(
            (1, 5, 7, 2, 2, 1), "float32", ALL_AT_ONCE, 5, 1, marks=pytest.mark.slow
        ),  # segments, the last chunk cut
        ((1, 3, 7, 34, 2, 1), "bfloat16", IN_RELAY, 3, 1),
        pytest.param((1, 5, 7, 34, 2, 1), "bfloat16", IN_RELAY, 5, 1, marks=pytest.mark.slow),
        # ranks enough for the matrix units, the last tile padded
        pytest.param((1, 6, 5, 34, 2, 18), "bfloat16", {}, 1, 1, marks=pytest.mark.slow),
    ],
)
def test_agrees_with_the_reference(
    shape: tuple[int, ...], dtype: str, settings: dict[str, int], segments: int, shares: int
) -> None:
    case = dict(zip(("B", "H", "W", "C", "N", "R"), shape, strict=True), dtype=dtype)
    done = subprocess.run(
        [sys.executable, "-m", "tests.unit.ops.triton_interpreter", json.dumps(case), json.dumps(settings)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "segments": segments, "shares": shares, "relay": settings is IN_RELAY
    }  # fmt: skip


@pytest.mark.parametrize("shape", [(1, 1024, 256), (24, 1024, 256), (64, 256, 768), (1, 1, 1), (3, 100, 33)])
def test_segments_and_shares_cover_everything_once(shape: tuple[int, int, int]) -> None:
    B, L, C = shape
    chunks = backend.state_shape(B, 1, L, C, 16)[2]
    for N in (16, 9, 6, 1):
        for plan in (backend._plan_forward(B, L, C, N), backend._plan_backward(B, L, C, N)):
            assert (plan.segments - 1) * plan.chunks < chunks <= plan.segments * plan.chunks
            assert N % plan.own == 0


def test_small_batches_are_segmented_and_large_ones_are_not() -> None:
    assert backend._plan_forward(1, 1024, 256, 16).segments > 8
    assert backend._plan_backward(1, 1024, 256, 16).segments > 8
    assert backend._plan_forward(64, 1024, 256, 16).segments == 1


def test_a_relay_where_programs_do_not_fill_their_last_round() -> None:
    assert backend._plan_backward(24, 1024, 256, 16).relay
    assert not backend._plan_backward(64, 1024, 256, 16).relay
    assert not backend._plan_backward(1, 1024, 256, 16).relay


def test_two_channels_a_thread_where_there_are_warps_enough() -> None:
    assert backend._plan_forward(64, 1024, 256, 16).channels == 64
    assert backend._plan_forward(24, 1024, 256, 16).channels == 32


def test_refuses_a_cpu_without_the_interpreter() -> None:
    if os.environ.get("TRITON_INTERPRET") == "1":
        pytest.skip("this process runs the interpreter")
    with pytest.raises(ValueError, match="Triton compiles for GPUs only"):
        ss2d(*Case(1, 2, 2, 2, 2, 1).inputs(), backend="triton")


def test_names_the_map_that_overflows_its_offsets() -> None:
    x = torch.empty(1, 2**13, 2**13, 4, device="meta")
    proj = torch.empty(1, 2**13, 2**13, 4, 34, device="meta")
    parameters = [torch.empty(*shape, device="meta") for shape in ((4, 4, 16), (4, 4, 2), (4, 4), (4, 4))]
    with pytest.raises(ValueError, match="8192x8192 with 4 channels is too large for one scan"):
        backend.forward(x, proj, *parameters)


def test_more_states_than_the_kernel_holds_take_the_named_slower_path() -> None:
    reason = selective_scan._refusal("triton", "cuda", torch.float32, 17)
    assert reason == "17 states per channel, at most 16 are supported"
