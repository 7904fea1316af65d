"""A stand-in for mamba-ssm's extension module `selective_scan_cuda`, which cannot run without a GPU: the same two
functions, arguments and layouts (mamba-ssm 2.3, csrc/selective_scan/selective_scan.cpp), step after step in torch."""

from __future__ import annotations

import torch
from torch import Tensor

CHUNK = 2048


def fwd(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, z: None, delta_bias: Tensor, softplus: bool
) -> list[Tensor]:
    """u, delta: (batch, channels, L). A: (channels, N). B, C: (batch, groups, N, L). y like delta, and checkpoints."""
    _check(u, delta, B, C)
    h, _, _, u32, _, c = _states(u, delta, A, B, C, delta_bias)
    y = torch.stack([(h[t + 1] * c[..., t]).sum(-1) + D * u32[..., t] for t in range(u.shape[2])], -1)
    states = u.new_zeros((*u.shape[:2], -(-u.shape[2] // CHUNK), 2 * A.shape[1]), dtype=torch.float32)
    return [torch.empty_like(delta).copy_(y), states]


def bwd(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    z: None,
    delta_bias: Tensor,
    grad: Tensor,
    states: Tensor,
    y: None,
    dz: None,
    softplus: bool,
    recompute: bool,
) -> list[Tensor]:
    """Gradients of u and delta in their types, of the others in float32."""
    _check(u, delta, B, C, grad)
    h, decay, step, u32, b, c = _states(u, delta, A, B, C, delta_bias)
    dy, groups = grad.float(), B.shape[:2]
    du, dstep, db, dc = (torch.zeros_like(tensor) for tensor in (u32, u32, b, c))
    dA, dh = torch.zeros_like(A), torch.zeros_like(h[0])
    for t in reversed(range(u.shape[2])):
        dh = dh + c[..., t] * dy[..., t, None]
        dc[..., t] = h[t + 1] * dy[..., t, None]
        along = (dh * b[..., t]).sum(-1)
        du[..., t] = D * dy[..., t] + step[..., t] * along
        dstep[..., t] = u32[..., t] * along + (dh * h[t] * decay[t] * A).sum(-1)
        dA += (dh * h[t] * decay[t] * step[..., t, None]).sum(0)
        db[..., t] = dh * (step[..., t] * u32[..., t])[..., None]
        dh = dh * decay[t]
    ddelta = dstep * torch.sigmoid(delta.float() + delta_bias[:, None])
    summed = [g.unflatten(1, (groups[1], -1)).sum(2) for g in (db, dc)]
    dD = (dy * u32).sum((0, 2))
    return [du.to(u.dtype), ddelta.to(delta.dtype), dA, *summed, dD, ddelta.sum((0, 2))]


def _check(*tensors: Tensor) -> None:
    assert all(tensor.stride(-1) == 1 or tensor.shape[-1] == 1 for tensor in tensors), "the last dimension has gaps"


def _states(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, delta_bias: Tensor
) -> tuple[list[Tensor], list[Tensor], Tensor, Tensor, Tensor, Tensor]:
    """The states before every step and after the last, each step's decay, and step, u, B and C of every channel."""
    each = u.shape[1] // B.shape[1]  # channels of a group
    u, b, c = u.float(), B.float().repeat_interleave(each, 1), C.float().repeat_interleave(each, 1)
    step = torch.nn.functional.softplus(delta.float() + delta_bias[:, None])
    h, decay = [torch.zeros(*u.shape[:2], A.shape[1])], []
    for t in range(u.shape[2]):
        decay.append(torch.exp(step[..., t, None] * A))
        h.append(decay[t] * h[t] + (step[..., t] * u[..., t])[..., None] * b[..., t])
    return h, decay, step, u, b, c
