"""The scan as the equations say it, step after step, in stock differentiable torch. The oracle of every kernel."""

from __future__ import annotations

import torch
from torch import Tensor

DIRECTIONS = 4


def direction_order(H: int, W: int, direction: int, device: torch.device | None = None) -> Tensor:
    """Row-major position of each step of one direction: (H*W,) int64.

    0: row by row from the top-left corner; 2: down the columns, from the rightmost column to the leftmost (top-right
    to bottom-left); 1 and 3: the reverse of 0 and 2.
    """
    positions = torch.arange(H * W, device=device).view(H, W)
    order = positions.flatten() if direction < 2 else positions.flip(1).t().flatten()
    return order.flip(0) if direction % 2 else order


def ss2d(x: Tensor, proj: Tensor, A: Tensor, dt_weight: Tensor, dt_bias: Tensor, D: Tensor) -> Tensor:
    """Same arguments and result as `hymunet.ops.ss2d`; computes in float64 when x is float64, else in float32."""
    B, H, W, C = x.shape
    N, R = A.shape[-1], dt_weight.shape[-1]
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    pixels = x.to(dtype).reshape(B, H * W, C)
    rows = proj.to(dtype).reshape(B, H * W, DIRECTIONS, R + 2 * N)
    y = torch.zeros_like(pixels)
    for k in range(DIRECTIONS):
        order = direction_order(H, W, k, x.device)
        u = pixels[:, order]
        dt, b, c = rows[:, order, k].split([R, N, N], dim=-1)
        delta = torch.nn.functional.softplus(dt @ dt_weight[k].to(dtype).t() + dt_bias[k].to(dtype), threshold=60)
        a = A[k].to(dtype)
        h = pixels.new_zeros(B, C, N)
        outputs = []
        for t in range(H * W):
            decay = torch.exp(delta[:, t, :, None] * a)
            h = decay * h + (delta[:, t] * u[:, t])[..., None] * b[:, t, None, :]
            outputs.append((h * c[:, t, None, :]).sum(-1))
        scanned = torch.stack(outputs, dim=1) + D[k].to(dtype) * u
        y = y.index_add(1, order, scanned)
    return y.reshape(B, H, W, C).to(x.dtype)
