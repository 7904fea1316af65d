"""The scan from stock differentiable operators, for ONNX, `torch.export` and machines without a kernel.

The L steps are cut into chunks of `CHUNK`; all chunks advance together, one step at a time, so that `CHUNK` vectorised
steps do the work of L. A first pass from zero finds what each chunk adds to the state and by how much it makes it
decay; a prefix scan over the chunks, doubling its reach each time, gives the state that enters each of them; the second
pass starts from it. The only exponentials are exp(delta * A) and exp(sum(delta) * A): no exponent is ever positive, so
nothing overflows in float16 either. The number of operators depends on the size of the map alone, and where that is
symbolic on nothing: `DOUBLINGS` reach over any map of up to CHUNK * 2 ** DOUBLINGS = 65,536 pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

CHUNK = 16
DOUBLINGS = 12


def ss2d(x: Tensor, proj: Tensor, A: Tensor, dt_weight: Tensor, dt_bias: Tensor, D: Tensor) -> Tensor:
    """Same arguments and result as `hymunet.ops.ss2d`; computes in float64 when x is float64, else in float32."""
    if torch.is_autocast_enabled(x.device.type):
        with torch.autocast(x.device.type, enabled=False):
            return _scan_map(x, proj, A, dt_weight, dt_bias, D)
    return _scan_map(x, proj, A, dt_weight, dt_bias, D)


def _scan_map(x: Tensor, proj: Tensor, A: Tensor, dt_weight: Tensor, dt_bias: Tensor, D: Tensor) -> Tensor:
    H, W = x.shape[1:3]
    N, R = A.shape[-1], dt_weight.shape[-1]
    dtype = torch.promote_types(x.dtype, torch.float32)
    pixels, rows = x.to(dtype), proj.to(dtype)
    u = torch.stack([_walk(pixels, k) for k in range(4)], dim=1)
    dt, b, c = torch.stack([_walk(rows[:, :, :, k], k) for k in range(4)], dim=1).split([R, N, N], dim=-1)
    delta = functional.softplus(dt @ dt_weight.transpose(1, 2) + dt_bias[:, None], threshold=60)
    y = _scan(delta, delta * u, b, c, A[:, None], H * W)
    y = y + D[:, None] * u
    first, *others = (_unwalk(y[:, k], k, H, W) for k in range(4))
    return sum(others, first).to(x.dtype)


def _walk(values: Tensor, direction: int) -> Tensor:
    """(B, H, W, F) -> (B, L, F) in the order of the direction (hymunet/ops/reference.py: direction_order)."""
    steps = values.flatten(1, 2) if direction < 2 else values.flip(2).transpose(1, 2).flatten(1, 2)
    return steps.flip(1) if direction % 2 else steps


def _unwalk(steps: Tensor, direction: int, H: int, W: int) -> Tensor:
    """The inverse of `_walk`."""
    steps = steps.flip(1) if direction % 2 else steps
    return steps.unflatten(1, (H, W)) if direction < 2 else steps.unflatten(1, (W, H)).transpose(1, 2).flip(2)


def _scan(delta: Tensor, du: Tensor, b: Tensor, c: Tensor, A: Tensor, L: int) -> Tensor:
    """delta, du: (B, 4, L, C); b, c: (B, 4, L, N); A: (4, 1, C, N) -> (B, 4, L, C)."""
    K = (L + CHUNK - 1) // CHUNK
    if not isinstance(L, int):
        K = K + 1  # or a small map's single chunk would be baked into the graph
    delta, du, b, c = (_chunks(v, K * CHUNK - L, K) for v in (delta, du, b, c))
    decays = [torch.exp(step[..., None] * A) for step in delta.unbind(3)]
    inputs = [u[..., None] * v[..., None, :] for u, v in zip(du.unbind(3), b.unbind(3), strict=True)]
    state = inputs[0]
    for decay, add in zip(decays[1:], inputs[1:], strict=True):
        state = decay * state + add
    state = _entering(torch.exp(delta.sum(3)[..., None] * A), state, K)
    outputs = []
    for decay, add, row in zip(decays, inputs, c.unbind(3), strict=True):
        state = decay * state + add
        outputs.append((state * row[..., None, :]).sum(-1))
    return torch.stack(outputs, dim=3).flatten(2, 3)[:, :, :L]


def _entering(decay: Tensor, add: Tensor, K: int) -> Tensor:
    """The state before each of K steps h = decay * h + add, from h = 0. decay, add: (B, 4, K, C, N)."""
    for doubling in range((K - 1).bit_length() if isinstance(K, int) else DOUBLINGS):
        reach = 2**doubling
        add = add + decay * _delayed(add, reach, 0.0, K)
        decay = decay * _delayed(decay, reach, 1.0, K)
    return _delayed(add, 1, 0.0, K)


def _delayed(values: Tensor, steps: int, fill: float, K: int) -> Tensor:
    """Dimension 2, of length K, moved by a number of steps; `fill` comes in."""
    return functional.pad(values, [0, 0, 0, 0, steps, 0], value=fill)[:, :, :K]


def _chunks(values: Tensor, padding: int, K: int) -> Tensor:
    """(B, 4, L, F) -> (B, 4, K, CHUNK, F), filled up with zeros: steps that change nothing."""
    return functional.pad(values, [0, 0, 0, padding]).unflatten(2, (K, CHUNK))
