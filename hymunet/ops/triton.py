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

SCHEDULERS = 528
"""Of the 132 multiprocessors of the GPU that this plan was measured on."""
WARPS_WANTED = 3 * SCHEDULERS
BACKWARD_STATES = 8
"""The most a backward program holds: each costs it a register for every step of a chunk."""
OPTIONS = {"num_stages": 1, "enable_fp_fusion": True}
"""Newer versions of Triton keep products and sums apart unless told otherwise."""


@dataclass(frozen=True)
class Plan:
    """How one launch splits the work: channels, warps and states per program, segments of `chunks` chunks per walk."""

    channels: int
    warps: int
    own: int
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
        if torch.version.hip:
            return "the kernels prefetch by NVIDIA's instructions; use export"
        if torch.cuda.get_device_capability() < (8, 0):
            return f"{torch.cuda.get_device_name()} is older than compute capability 8.0; use mamba_ssm or export"
    return None


def state_shape(B: int, H: int, W: int, C: int, N: int) -> tuple[int, ...]:
    from hymunet.ops.triton_walk import CHUNK

    return (B, 4, -(-H * W // CHUNK), N, C)


def forward(
    x: Tensor, proj: Tensor, A: Tensor, dt_weight: Tensor, dt_bias: Tensor, D: Tensor, *, keep: bool = True
) -> tuple[Tensor, Tensor]:
    """y and the states for a backward, none without `keep`."""
    from hymunet.ops.triton_forward import scan_kernel
    from hymunet.ops.triton_walk import CHUNK

    B, H, W, C = x.shape
    call = _Call(x, proj, A, dt_weight, dt_bias, D)
    plan = _plan_forward(B, H * W, C, call.N)
    states = x.new_empty(state_shape(B, H, W, C, call.N) if keep else 0, dtype=torch.float32)
    part = x.new_empty((4 * call.N // plan.own, B, H, W, C), dtype=x.dtype)
    carry = call.carry(plan, None)
    scan_kernel[call.grid(plan)](
        call.x, call.rows, call.A, call.dt_weight, call.dt_bias, call.D, carry, part, states, call.unread,
        H, W, C, plan.segments, plan.chunks, **call.sizes(plan), BC=plan.channels, CH=CHUNK, KEEP=keep,
        SEGMENTED=plan.segments > 1, SECTORS=call.sectors, PREFETCH=x.is_cuda, num_warps=plan.warps, **OPTIONS,
    )  # fmt: skip
    return _merge(part, x.dtype), states


def backward(grad_y: Tensor, states: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    """Gradients of `forward`'s six inputs, given the states that it kept."""
    from hymunet.ops.triton_backward import backward_kernel, merge_rows_kernel
    from hymunet.ops.triton_walk import CHUNK

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
    carry = call.carry(plan, grad_y)
    backward_kernel[call.grid(plan)](
        call.x, call.rows, call.A, call.dt_weight, call.dt_bias, call.D, grad_y, carry, states,
        dx, drows, gradients, call.unread, H, W, C, plan.segments, plan.chunks, **call.sizes(plan), BC=plan.channels,
        CH=CHUNK, SEGMENTED=plan.segments > 1, EXACT=exact, SECTORS=call.sectors, PREFETCH=x.is_cuda,
        num_warps=plan.warps, **OPTIONS,
    )  # fmt: skip
    dproj = proj.new_empty(proj.shape)
    merge_rows_kernel[(-(-dproj.numel() // 1024),)](
        drows, dproj, H * W, H, W, dproj.numel(), R=R, N=N, SHARES=shares, BLOCKS=blocks, BLOCK=1024, num_warps=4
    )
    total = gradients.sum(0)
    shared = total[:, :, plan.own : -1].sum(1)
    return (
        _merge(dx, x.dtype),
        dproj,
        total[:, :, : plan.own].reshape(4, N, C).transpose(1, 2).contiguous(),
        shared[:, :R].transpose(1, 2).contiguous(),
        shared[:, R].contiguous(),
        total[:, 0, -1].contiguous(),
    )


class _Call:
    """The arguments as the kernels take them."""

    def __init__(self, x: Tensor, proj: Tensor, A: Tensor, dt_weight: Tensor, dt_bias: Tensor, D: Tensor) -> None:
        _, H, W, _ = x.shape
        self.N, self.R = A.shape[-1], dt_weight.shape[-1]
        if H * W * max(x.shape[-1] * self.N, 4 * proj.shape[-1]) >= 2**31:
            raise ValueError(f"a map of {H}x{W} with {x.shape[-1]} channels is too large for one scan; tile the image")
        self.x = x.contiguous()
        self.rows = _walks(proj.contiguous(), H, W)
        self.A, self.dt_weight = A.transpose(1, 2).contiguous(), dt_weight.transpose(1, 2).contiguous()
        self.dt_bias, self.D = dt_bias.contiguous(), D.contiguous()
        self.unread = x.new_empty(self.sectors, dtype=torch.float32)

    def sizes(self, plan: Plan) -> dict[str, int | bool]:
        from hymunet.ops.triton_walk import CHUNK

        _, H, _, C = self.x.shape
        padded = {name: max(2, 1 << (size - 1).bit_length()) for name, size in (("RP", self.R), ("NP", plan.own))}
        return {"R": self.R, "N": self.N, "OWN": plan.own, **padded, "ALIGNED": H % CHUNK == 0 and C % plan.channels == 0}

    @property
    def sectors(self) -> int:
        """Pieces of 32 bytes in the rows of a chunk, as a power of two."""
        from hymunet.ops.triton_walk import CHUNK

        return 1 << (-(-CHUNK * (self.R + 2 * self.N) // 8) - 1).bit_length()

    def grid(self, plan: Plan) -> tuple[int]:
        B, _, _, C = self.x.shape
        return (-(-C // plan.channels) * self.N // plan.own * 4 * plan.segments * B,)

    def carry(self, plan: Plan, grad_y: Tensor | None) -> Tensor:
        """(B, 4, segments, N, C): the state (the adjoint state when `grad_y` is given) that enters each segment."""
        from hymunet.ops.triton_forward import combine_kernel, summary_kernel
        from hymunet.ops.triton_walk import CHUNK

        if plan.segments == 1:
            return self.A
        B, H, W, C = self.x.shape
        reverse = grad_y is not None
        carry = self.x.new_empty((B, 4, plan.segments, self.N, C), dtype=torch.float32)
        total = self.x.new_empty((B, 4, plan.segments, C), dtype=torch.float32)
        summary_kernel[self.grid(plan)](
            self.x, self.rows, self.A, self.dt_weight, self.dt_bias, grad_y if reverse else self.x, carry, total,
            H, W, C, plan.segments, plan.chunks, **self.sizes(plan), BC=plan.channels, CH=CHUNK, REVERSE=reverse,
            num_warps=plan.warps, **OPTIONS,
        )  # fmt: skip
        combine_kernel[(-(-C // 32) * self.N * 4 * B,)](
            self.A, carry, total, C, plan.segments, N=self.N, SP=1 << (plan.segments - 1).bit_length(), BC=32,
            REVERSE=reverse, num_warps=1, **OPTIONS,
        )  # fmt: skip
        return carry


def _plan_forward(B: int, L: int, C: int, N: int) -> Plan:
    """Two channels a thread share the reading of B and C, where that leaves warps enough to hide latency."""
    wide = C % 64 == 0 and B * 4 * (C // 64) >= 1.5 * SCHEDULERS
    return _plan(B, L, C, N, 64 if wide else 32, 1, N)


def _plan_backward(B: int, L: int, C: int, N: int) -> Plan:
    return _plan(B, L, C, N, 32, 1, BACKWARD_STATES)


def _plan(B: int, L: int, C: int, N: int, channels: int, warps: int, most: int) -> Plan:
    """At most `most` states per program, and fewer, then segments, where programs are too few."""
    from hymunet.ops.triton_walk import CHUNK

    walks = B * 4 * -(-C // channels) * warps
    own = N
    while own % 2 == 0 and own > 4 and (own > most or walks * (N // own) < SCHEDULERS):
        own //= 2
    chunks = -(-L // CHUNK)
    # A summary costs nearly as much as a scan: fewer than four segments would not pay for it.
    wanted = min(chunks, -(-WARPS_WANTED // (walks * (N // own))))
    per_segment = chunks if wanted < 4 else -(-chunks // wanted)
    return Plan(channels, warps, own, -(-chunks // per_segment), per_segment)


def _walks(proj: Tensor, H: int, W: int) -> Tensor:
    """`proj` in float32 and in the order of the four walks, (B, 4, H*W, R + 2N)."""
    from hymunet.ops.triton_forward import walk_kernel

    B, ROW = proj.shape[0], proj.shape[-1]
    rows = proj.new_empty((B, 4, H * W, ROW), dtype=torch.float32)
    size = rows.numel()
    walk_kernel[(-(-size // 1024),)](proj, rows, H * W, H, W, size, ROW=ROW, BLOCK=1024, num_warps=4)
    return rows


def _merge(part: Tensor, dtype: torch.dtype) -> Tensor:
    """Sum over the leading axis, in order, in float32."""
    from hymunet.ops.triton_forward import merge_kernel

    if part.shape[0] == 1:
        return part[0].to(dtype)
    out = part.new_empty(part.shape[1:], dtype=dtype)
    size = out.numel()
    merge_kernel[(-(-size // 1024),)](part, out, size, PARTS=part.shape[0], BLOCK=1024, num_warps=4)
    return out
