"""SS2D on NVIDIA GPUs in Triton: launch plan and buffers around the kernels. On a CPU, Triton's interpreter runs it.

Directions are scanned apart and added in a fixed order afterwards. Where images, directions and channels fill the GPU,
a walk is one pass; a small batch is cut into segments: each is summarised, the summaries are combined in order, and all
segments then run at once. The plan depends on the shape alone, so neither the GPU nor a
timing can change a result.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor

from hymunet.ops import compilers

CHUNK = 8
"""Tokens between two saved states. Loops over chunks are unrolled: longer ones outgrow the instruction cache."""
SCHEDULERS = 528
"""Of the 132 multiprocessors of the GPU that this plan was measured on."""
FORWARD_PROGRAMS = 3 * SCHEDULERS
BACKWARD_PROGRAMS = 2 * SCHEDULERS
"""How many run at the same time, one warp each, by the registers that they take."""
LEAST_CHUNKS = 4
"""In a segment: to begin one costs about as much as a chunk."""
LEAST_SEGMENTS = 4
"""Of a walk in all: fewer gain less than their summaries cost."""
HANDOVER = 2
"""What a segment of a relay costs beside its chunks, in chunks."""
BACKWARD_STATES = 8
"""The most a backward program holds: each costs it a register for every step of a chunk."""
OPTIONS = {"num_stages": 1, "enable_fp_fusion": True}
"""Newer versions of Triton keep products and sums apart unless told otherwise."""


@dataclass(frozen=True)
class Plan:
    """How one launch splits the work: channels and states per program, segments of `chunks` chunks per walk;
    in a relay they are walked one after the other, else all at once."""

    channels: int
    own: int
    segments: int
    chunks: int
    relay: bool = False


def options(channels: int, programs: int) -> dict[str, Any]:
    """For a forward kernel. By itself the assembler takes few registers, and so has little in flight: it is told how
    many programs share a multiprocessor, 8 (up to 255 registers) or 12 (168)."""
    few = programs <= 2 * SCHEDULERS or (channels > 32 and programs > 3 * SCHEDULERS)
    return {"num_warps": 1, "ptx_options": f"--minnctapersm={8 if few else 12}", **OPTIONS}


@cache
def unavailable(device_type: str) -> str | None:
    """None when this backend runs on `device_type`, else why not and what to do."""
    try:
        import triton  # noqa: F401
    except ImportError:
        return "the package triton is not installed; pip install triton"
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    if device_type == "cpu" and not interpreted:
        return "Triton compiles for GPUs only; move the tensors to cuda, or set TRITON_INTERPRET=1 to debug on a CPU"
    if device_type not in ("cpu", "cuda"):
        return f"no Triton kernel for device type {device_type}; use cuda"
    if device_type == "cuda" and not interpreted:
        if not torch.cuda.is_available():
            return "no CUDA device is visible"
        if torch.version.hip:
            return "the kernels prefetch by NVIDIA's instructions; use export"
        if torch.cuda.get_device_capability() < (8, 0):
            return f"{torch.cuda.get_device_name()} is older than compute capability 8.0; use mamba_ssm or export"
        if problem := compilers.c_problem():
            return f"Triton compiles its launcher when a kernel first starts, and {problem}"
    return None


def state_shape(B: int, H: int, W: int, C: int, N: int) -> tuple[int, ...]:
    from hymunet.ops.triton_walk import STATE_BLOCK

    return (B, 4, -(-H * W // CHUNK), -(-C // STATE_BLOCK.value), N, STATE_BLOCK.value)


def forward(
    x: Tensor, proj: Tensor, A: Tensor, dt_weight: Tensor, dt_bias: Tensor, D: Tensor, *, keep: bool = True
) -> tuple[Tensor, Tensor]:
    """y and the states for a backward, none without `keep`."""
    from hymunet.ops.triton_forward import scan_kernel

    B, H, W, C = x.shape
    call = _Call(x, proj, A, dt_weight, dt_bias, D)
    plan = _plan_forward(B, H * W, C, call.N)
    states = x.new_empty(state_shape(B, H, W, C, call.N) if keep else 0, dtype=torch.float32)
    part = x.new_empty((4 * call.N // plan.own, B, H, W, C), dtype=x.dtype)
    carry = call.carry(plan, None)
    scan_kernel[call.grid(plan)](
        call.x, call.rows, call.parameters, call.dt_bias, call.D, carry, part, states, call.unread,
        H, W, C, plan.segments, plan.chunks, **call.constants(plan), KEEP=keep, SEGMENTED=plan.segments > 1,
        **options(plan.channels, *call.grid(plan)),
    )  # fmt: skip
    return _merge(part, x.dtype), states


def backward(grad_y: Tensor, states: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    """Gradients of `forward`'s six inputs, given the states that it kept."""
    from hymunet.ops.triton_backward import backward_kernel
    from hymunet.ops.triton_merge import merge_gradients_kernel, merge_rows_kernel

    x, proj, *_ = inputs
    B, H, W, C = x.shape
    call = _Call(*inputs)
    N, R = call.N, call.R
    grad_y = grad_y.contiguous()
    exact = x.dtype != torch.bfloat16
    term = torch.float32 if exact or not x.is_cuda else torch.bfloat16  # the interpreter has no bfloat16 product
    plan = _plan_backward(B, H * W, C, N)
    blocks, shares = -(-C // plan.channels), N // plan.own
    dx = x.new_empty((4 * shares, *x.shape), dtype=x.dtype)
    drows = x.new_empty((blocks, B, 4, H * W, shares * R + 2 * N), dtype=term)
    gradients = x.new_empty((B * plan.segments, 4, shares, plan.own + R + 2, C), dtype=torch.float32)
    if plan.relay:
        carry = x.new_empty((B, 4, plan.segments, N, C), dtype=torch.float32)
        turns = x.new_zeros(1 + call.grid(plan)[0] // plan.segments, dtype=torch.int32)
    else:
        carry = turns = call.carry(plan, grad_y)
    backward_kernel[call.grid(plan)](
        call.x, call.rows, call.parameters, call.dt_bias, call.D, grad_y, carry, turns, states,
        dx, drows, gradients, call.unread, H, W, C, plan.segments, plan.chunks, **call.constants(plan),
        SEGMENTED=plan.segments > 1, RELAY=plan.relay, EXACT=exact, RANKS=max(16, padded(R)), num_warps=1, **OPTIONS,
    )  # fmt: skip
    dproj = proj.new_empty(proj.shape)
    merge_rows_kernel[(-(-dproj.numel() // 1024),)](
        drows, dproj, H * W, H, W, dproj.numel(), R=R, N=N, SHARES=shares, BLOCKS=blocks, BLOCK=1024, num_warps=4
    )
    dA, dweight, dbias, dD = (torch.empty_like(t, memory_format=torch.contiguous_format) for t in inputs[2:])
    merge_gradients_kernel[(-(-C // 32) * (N + R + 2) * 4,)](
        gradients, dA, dweight, dbias, dD, gradients.shape[0], C, R=R, N=N, OWN=plan.own, BC=32, PARTS=16, num_warps=1
    )
    return _merge(dx, x.dtype), dproj, dA, dweight, dbias, dD


class _Call:
    """The arguments as the kernels take them."""

    def __init__(self, x: Tensor, proj: Tensor, A: Tensor, dt_weight: Tensor, dt_bias: Tensor, D: Tensor) -> None:
        _, H, W, _ = x.shape
        self.N, self.R = A.shape[-1], dt_weight.shape[-1]
        if H * W * max(x.shape[-1] * self.N, 4 * proj.shape[-1]) >= 2**31:
            raise ValueError(f"a map of {H}x{W} with {x.shape[-1]} channels is too large for one scan; tile the image")
        self.x, self.dt_bias, self.D = x.contiguous(), dt_bias.contiguous(), D.contiguous()
        self.rows, self.parameters = _arrange(proj.contiguous(), A.contiguous(), dt_weight.contiguous(), H, W)
        most = CHUNK * 64 // 8  # pieces of 32 bytes in a chunk of 64 channels in float32
        self.unread = x.new_empty(max(most, _sectors(self.R, self.N)), dtype=torch.float32)

    def constants(self, plan: Plan) -> dict[str, int | bool]:
        _, H, _, C = self.x.shape
        aligned = H % CHUNK == 0 and C % plan.channels == 0
        return constants(self.R, self.N, plan.own, plan.channels, aligned=aligned, prefetch=self.x.is_cuda)

    def grid(self, plan: Plan) -> tuple[int]:
        B, _, _, C = self.x.shape
        return (_programs(B, C, self.N, plan.channels, plan.own) * plan.segments,)

    def carry(self, plan: Plan, grad_y: Tensor | None) -> Tensor:
        """(B, 4, segments, N, C): the state (the adjoint state when `grad_y` is given) that enters each segment."""
        from hymunet.ops.triton_forward import combine_kernel, summary_kernel

        if plan.segments == 1:
            return self.parameters
        B, H, W, C = self.x.shape
        reverse = grad_y is not None
        carry = self.x.new_empty((B, 4, plan.segments, self.N, C), dtype=torch.float32)
        total = self.x.new_empty((B, 4, plan.segments, C), dtype=torch.float32)
        summary_kernel[(self.grid(plan)[0] // plan.segments * (plan.segments - 1),)](
            self.x, self.rows, self.parameters, self.dt_bias, grad_y if reverse else self.x, carry, total,
            self.unread, H, W, C, plan.segments, plan.chunks, **self.constants(plan), REVERSE=reverse,
            **options(plan.channels, *self.grid(plan)),
        )  # fmt: skip
        combine_kernel[(-(-C // 32) * self.N * 4 * B,)](
            self.parameters, carry, total, C, plan.segments, R=self.R, N=self.N, SP=padded(plan.segments), BC=32,
            REVERSE=reverse, num_warps=1, **OPTIONS,
        )  # fmt: skip
        return carry


def _plan_forward(B: int, L: int, C: int, N: int) -> Plan:
    """Two channels a thread share the reading of B and C, where that leaves warps enough to hide latency and does not
    leave most of the GPU idle in a last round of programs."""
    waves = B * 4 * (C // 64) / (2 * SCHEDULERS)
    wide = C % 64 == 0 and waves >= 0.75 and math.ceil(waves) <= 1.5 * waves
    return _plan(B, L, C, N, 64 if wide else 32, N, FORWARD_PROGRAMS)


def _plan_backward(B: int, L: int, C: int, N: int) -> Plan:
    """Where the programs are more than run at once, a relay of segments keeps the GPU full until the end."""
    plan = _plan(B, L, C, N, 32, BACKWARD_STATES, BACKWARD_PROGRAMS)
    programs = _programs(B, C, N, plan.channels, plan.own)
    if programs <= BACKWARD_PROGRAMS:
        return plan

    def duration(segments: int) -> int:
        return -(-programs * segments // BACKWARD_PROGRAMS) * (-(-plan.chunks // segments) + HANDOVER)

    per_segment = -(-plan.chunks // min(range(1, 9), key=duration))
    segments = -(-plan.chunks // per_segment)
    return replace(plan, segments=segments, chunks=per_segment, relay=segments > 1)


def _plan(B: int, L: int, C: int, N: int, channels: int, most: int, resident: int) -> Plan:
    """Segments until all that can run at once do; where the walk is too short for that, fewer states per program."""

    chunks = -(-L // CHUNK)
    own, programs = N, _programs(B, C, N, channels, N)
    while own % 2 == 0 and (own > most or (own > 4 and programs * chunks < LEAST_CHUNKS * SCHEDULERS)):
        own, programs = own // 2, programs * 2
    segments = min(resident // programs, chunks // LEAST_CHUNKS)
    if segments < LEAST_SEGMENTS:
        segments = 1
    per_segment = -(-chunks // segments)
    return Plan(channels, own, -(-chunks // per_segment), per_segment)


def _programs(B: int, C: int, N: int, channels: int, own: int) -> int:
    """Of one segment."""
    return B * 4 * -(-C // channels) * (N // own)


def constants(R: int, N: int, own: int, channels: int, *, aligned: bool, prefetch: bool) -> dict[str, int | bool]:
    """What all kernels that walk are compiled for. RT ranks lie in a tile: a power of two that divides them, after at
    most one of padding; NP and SECTORS are powers of two, too."""
    even = R + R % 2
    return {
        "R": R, "N": N, "OWN": own, "RT": min(16, even & -even), "NP": max(2, padded(own)), "BC": channels, "CH": CHUNK,
        "ALIGNED": aligned, "SECTORS": _sectors(R, N), "PREFETCH": prefetch,
    }  # fmt: skip


def _sectors(R: int, N: int) -> int:
    """Pieces of 32 bytes in the rows of a chunk, as a power of two."""
    return padded(-(-CHUNK * (R + 2 * N) // 8))


def padded(size: int) -> int:
    """The next power of two."""
    return 1 << (size - 1).bit_length()


def _arrange(proj: Tensor, A: Tensor, dt_weight: Tensor, H: int, W: int) -> tuple[Tensor, Tensor]:
    """`proj` in float32 and in the order of the four walks, (B, 4, H*W, R + 2N); A and dt_weight as (4, N + R, C)."""
    from hymunet.ops.triton_merge import arrange_kernel

    _, C, N = A.shape
    R = dt_weight.shape[-1]
    rows = proj.new_empty((proj.shape[0], 4, H * W, R + 2 * N), dtype=torch.float32)
    parameters = A.new_empty((4, N + R, C))
    size = rows.numel()
    arrange_kernel[(-(-size // 1024) + -(-parameters.numel() // 1024),)](
        proj, A, dt_weight, rows, parameters, H, W, C, size, R=R, N=N, BLOCK=1024, num_warps=4
    )
    return rows, parameters


def _merge(part: Tensor, dtype: torch.dtype) -> Tensor:
    """Sum over the leading axis, in order, in float32."""
    from hymunet.ops.triton_merge import merge_kernel

    if part.shape[0] == 1:
        return part[0].to(dtype)
    out = part.new_empty(part.shape[1:], dtype=dtype)
    size = out.numel()
    merge_kernel[(-(-size // 1024),)](part, out, size, PARTS=part.shape[0], BLOCK=1024, num_warps=4)
    return out
