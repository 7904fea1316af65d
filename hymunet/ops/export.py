"""The scan from stock differentiable operators, for ONNX, `torch.export` and machines without a kernel.

The L steps are cut into chunks of `CHUNK`; all chunks advance together, one step at a time, so that `CHUNK` vectorised
steps do the work of L. A first pass from zero finds what each chunk adds to the state and by how much it makes it
decay; a scan over those, by the same method, gives the state that enters each chunk; the second pass starts from it.
The only exponentials are exp(delta * A) and their products over a chunk, exp(sum(delta) * A): no exponent is ever
positive, so nothing overflows in float16 either. The number of operators does not depend on the data: where height and
width are symbolic, `LEVELS` levels of chunks cover any map of up to CHUNK ** LEVELS pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

CHUNK = 16
LEVELS = 4


def ss2d(x: Tensor, proj: Tensor, A: Tensor, dt_weight: Tensor, dt_bias: Tensor, D: Tensor) -> Tensor:
    """Same arguments and result as `hymunet.ops.ss2d`; computes in float64 when x is float64, else in float32."""
    if torch.is_autocast_enabled(x.device.type):
        with torch.autocast(x.device.type, enabled=False):
            return _scan_map(x, proj, A, dt_weight, dt_bias, D)
    return _scan_map(x, proj, A, dt_weight, dt_bias, D)


def _scan_map(x: Tensor, proj: Tensor, A: Tensor, dt_weight: Tensor, dt_bias: Tensor, D: Tensor) -> Tensor:
    B, H, W, C = x.shape
    N, R = A.shape[-1], dt_weight.shape[-1]
    dtype = torch.promote_types(x.dtype, torch.float32)
    pixels, rows = x.to(dtype), proj.to(dtype)
    u = torch.stack([_walk(pixels, k) for k in range(4)], dim=1)
    dt, b, c = torch.stack([_walk(rows[:, :, :, k], k) for k in range(4)], dim=1).split([R, N, N], dim=-1)
    delta = functional.softplus(dt @ dt_weight.transpose(1, 2) + dt_bias[:, None], threshold=60)
    y = _scan(delta, delta * u, b, c, A[:, None], H * W)
    y = y + D[:, None] * u
    merged = sum(_unwalk(y[:, k], k, H, W) for k in range(4))
    return merged.to(x.dtype)


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
    delta, du, b, c = (_chunks(v, L) for v in (delta, du, b, c))
    decays = [torch.exp(delta[..., t, :, None] * A) for t in range(CHUNK)]
    inputs = [du[..., t, :, None] * b[..., t, None, :] for t in range(CHUNK)]
    state = inputs[0]
    for decay, add in zip(decays[1:], inputs[1:], strict=True):
        state = decay * state + add
    state = _entering(torch.exp(delta.sum(-2)[..., None] * A), state, delta.shape[2], _levels(L) - 1)
    outputs = []
    for t in range(CHUNK):
        state = decays[t] * state + inputs[t]
        outputs.append((state * c[..., t, None, :]).sum(-1))
    return torch.stack(outputs, dim=-2).flatten(2, 3)[:, :, :L]


def _entering(decay: Tensor, add: Tensor, K: int, levels: int) -> Tensor:
    """The state before each of K steps h = decay * h + add, from h = 0. decay, add: (B, 4, K, C, N)."""
    if levels == 0:
        return torch.zeros_like(add)
    decay, add = _chunks(decay, K, fill=1.0), _chunks(add, K)
    state, whole = add[:, :, :, 0], decay[:, :, :, 0]
    for t in range(1, CHUNK):
        state = decay[:, :, :, t] * state + add[:, :, :, t]
        whole = decay[:, :, :, t] * whole
    state = _entering(whole, state, decay.shape[2], levels - 1)
    entering = []
    for t in range(CHUNK):
        entering.append(state)
        state = decay[:, :, :, t] * state + add[:, :, :, t]
    return torch.stack(entering, dim=3).flatten(2, 3)[:, :, :K]


def _chunks(values: Tensor, L: int, fill: float = 0.0) -> Tensor:
    """Dimension 2, of length L, cut into (chunks, CHUNK), filled up with steps that change nothing.

    Where L is symbolic there is one more chunk, so that a small map's count of 1 is not baked into the graph.
    """
    count = (L + CHUNK - 1) // CHUNK + (0 if isinstance(L, int) else 1)
    padding = [0, 0] * (values.dim() - 3) + [0, count * CHUNK - L]
    return functional.pad(values, padding, value=fill).unflatten(2, (count, CHUNK))


def _levels(L: int) -> int:
    if not isinstance(L, int):
        return LEVELS
    levels = 1
    while CHUNK**levels < L:
        levels += 1
    return levels
