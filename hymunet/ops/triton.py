"""SS2D on NVIDIA GPUs in Triton: launch plan and buffers around the kernels. On a CPU, Triton's interpreter runs it.

Directions are scanned apart and added in a fixed order afterwards. Where images, directions and channels fill the GPU,
a walk is one pass; a small batch is cut into segments: each is summarised, the summaries are combined in order, and all
segments then run at once. The plan depends on the shape alone, so neither the GPU nor a
timing can change a result.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

PROGRAMS_WANTED = 264
"""Two programs for each of the 132 multiprocessors of the GPU that this plan was measured on."""

FORWARD_TILE = (64, 2)
"""Channels and warps per program."""
BACKWARD_TILE = (128, 4)
OPTIONS = {"num_stages": 1, "enable_fp_fusion": True}
"""Newer versions of Triton keep products and sums apart unless told otherwise."""


@dataclass(frozen=True)
class Plan:
    """How one launch splits the work: channels per program, warps, and segments of `chunks` chunks per walk."""

    channels: int
    warps: int
    segments: int
    chunks: int


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
        if torch.cuda.get_device_capability() < (8, 0):
            return f"{torch.cuda.get_device_name()} is older than compute capability 8.0; use mamba_ssm or export"
    return None


def state_shape(B: int, H: int, W: int, C: int, N: int) -> tuple[int, ...]:
    from hymunet.ops.triton_forward import CHUNK

    return (B, 4, -(-H * W // CHUNK), N, C)


def forward(
    x: Tensor, proj: Tensor, A: Tensor, dt_weight: Tensor, dt_bias: Tensor, D: Tensor, *, keep: bool = True
) -> tuple[Tensor, Tensor]:
    """y and the states for a backward, none without `keep`."""
    from hymunet.ops.triton_forward import CHUNK, scan_kernel

    B, H, W, C = x.shape
    call = _Call(x, proj, A, dt_weight, dt_bias, D)
    plan = _plan(B, H * W, C, *FORWARD_TILE)
    states = x.new_empty(state_shape(B, H, W, C, call.N) if keep else 0, dtype=torch.float32)
    part = x.new_empty((4, B, H, W, C), dtype=torch.float32)
    carry = call.carry(plan, None)
    scan_kernel[call.grid(plan)](
        call.x, call.proj, call.A, call.dt_weight, call.dt_bias, call.D, carry, part, states,
        H, W, C, plan.segments, plan.chunks, **call.sizes, BC=plan.channels, CH=CHUNK,
        SEGMENTED=plan.segments > 1, KEEP=keep, num_warps=plan.warps, **OPTIONS,
    )  # fmt: skip
    return _merge(part, x.dtype), states


def backward(grad_y: Tensor, states: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    """Gradients of `forward`'s six inputs, given the states that it kept."""
    from hymunet.ops.triton_backward import GROUP, backward_kernel
    from hymunet.ops.triton_forward import CHUNK

    x, proj, *_ = inputs
    B, H, W, C = x.shape
    call = _Call(*inputs)
    grad_y = grad_y.contiguous()
    exact = x.dtype != torch.bfloat16 or not x.is_cuda  # the interpreter has no bfloat16 product
    channels, warps = (32, 1) if exact else BACKWARD_TILE
    plan = _plan(B, H * W, C, channels, warps)
    blocks = -(-C // plan.channels)
    rows = B * plan.segments
    dx, dproj, dA, dW, dbias, dD = (
        x.new_empty(shape, dtype=torch.float32)
        for shape in (
            (4, *x.shape), (blocks, *proj.shape), (rows, 4, call.N, C), (rows, 4, call.R, C), (rows, 4, C), (rows, 4, C)
        )
    )  # fmt: skip
    carry = call.carry(plan, grad_y)
    backward_kernel[call.grid(plan)](
        call.x, call.proj, call.A, call.dt_weight, call.dt_bias, call.D, grad_y, carry, states,
        dx, dproj, dA, dW, dbias, dD, H, W, C, plan.segments, plan.chunks, **call.sizes, BC=plan.channels, CH=CHUNK,
        GROUP=GROUP, SEGMENTED=plan.segments > 1, EXACT=exact, num_warps=plan.warps, **OPTIONS,
    )  # fmt: skip
    return (
        _merge(dx, x.dtype),
        _merge(dproj, proj.dtype),
        dA.sum(0).transpose(1, 2).contiguous(),
        dW.sum(0).transpose(1, 2).contiguous(),
        dbias.sum(0),
        dD.sum(0),
    )


class _Call:
    """The arguments as the kernels take them."""

    def __init__(self, x: Tensor, proj: Tensor, A: Tensor, dt_weight: Tensor, dt_bias: Tensor, D: Tensor) -> None:
        _, H, W, _ = x.shape
        self.N, self.R = A.shape[-1], dt_weight.shape[-1]
        if H * W * max(x.shape[-1] * self.N, 4 * proj.shape[-1]) >= 2**31:
            raise ValueError(f"a map of {H}x{W} with {x.shape[-1]} channels is too large for one scan; tile the image")
        self.x, self.proj = x.contiguous(), proj.contiguous()
        self.A, self.dt_weight = A.transpose(1, 2).contiguous(), dt_weight.transpose(1, 2).contiguous()
        self.dt_bias, self.D = dt_bias.contiguous(), D.contiguous()
        self.sizes = {
            "R": self.R,
            "N": self.N,
            "RP": max(2, 1 << (self.R - 1).bit_length()),
            "NP": max(2, 1 << (self.N - 1).bit_length()),
            "ALIGNED": H % 16 == 0,
            "PAIRS": proj.dtype == torch.bfloat16 and self.R % 2 == 0 and self.N % 2 == 0,
        }

    def grid(self, plan: Plan) -> tuple[int]:
        B, _, _, C = self.x.shape
        return (-(-C // plan.channels) * 4 * plan.segments * B,)

    def carry(self, plan: Plan, grad_y: Tensor | None) -> Tensor:
        """(B, 4, segments, N, C): the state (the adjoint state when `grad_y` is given) that enters each segment."""
        from hymunet.ops.triton_forward import CHUNK, combine_kernel, summary_kernel

        if plan.segments == 1:
            return self.A
        B, H, W, C = self.x.shape
        reverse = grad_y is not None
        carry = self.x.new_empty((B, 4, plan.segments, self.N, C), dtype=torch.float32)
        total = self.x.new_empty((B, 4, plan.segments, C), dtype=torch.float32)
        summary_kernel[self.grid(plan)](
            self.x, self.proj, self.A, self.dt_weight, self.dt_bias, grad_y if reverse else self.x, carry, total,
            H, W, C, plan.segments, plan.chunks, **self.sizes, BC=plan.channels, CH=CHUNK, REVERSE=reverse,
            num_warps=plan.warps, **OPTIONS,
        )  # fmt: skip
        combine_kernel[(-(-C // 32) * 4 * B,)](
            self.A,
            carry,
            total,
            C,
            plan.segments,
            N=self.N,
            NP=self.sizes["NP"],
            BC=32,
            REVERSE=reverse,
            num_warps=1,
            **OPTIONS,
        )
        return carry


def _plan(B: int, L: int, C: int, channels: int, warps: int) -> Plan:
    from hymunet.ops.triton_forward import CHUNK

    programs = B * 4 * -(-C // channels)
    chunks = -(-L // CHUNK)
    # A summary costs as much as a scan: fewer than four segments would not pay for it.
    wanted = min(chunks, -(-PROGRAMS_WANTED // programs))
    per_segment = chunks if wanted < 4 else -(-chunks // wanted)
    return Plan(channels, warps, -(-chunks // per_segment), per_segment)


def _merge(part: Tensor, dtype: torch.dtype) -> Tensor:
    """Sum over the leading axis, in order, in float32."""
    from hymunet.ops.triton_forward import merge_kernel

    if part.shape[0] == 1:
        return part[0].to(dtype)
    out = part.new_empty(part.shape[1:], dtype=dtype)
    size = out.numel()
    merge_kernel[(-(-size // 1024),)](part, out, size, PARTS=part.shape[0], BLOCK=1024, num_warps=4)
    return out
