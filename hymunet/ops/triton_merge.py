"""Triton kernels around a scan: its inputs in the order in which it reads them, and sums of what its programs wrote.
They are always taken in the same order, so that two runs give the same bits."""

from __future__ import annotations

import triton
import triton.language as tl

from hymunet.ops.triton_walk import pixel_of


@triton.jit
def arrange_kernel(
    proj, A, dt_weight, rows, parameters, H, W, C, size,
    R: tl.constexpr, N: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """`proj` (B, H*W, 4, R + 2N) as float32 in the order of each walk, `rows` (B, 4, H*W, R + 2N) of `size` values; and
    by the programs after those A (4, C, N) and dt_weight (4, C, R) as `parameters` (4, N + R, C)."""
    ROW: tl.constexpr = R + 2 * N
    L = H * W
    pid = tl.program_id(0)
    of_rows = tl.cdiv(size, BLOCK)
    if pid < of_rows:
        value = pid.to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
        step = (value // ROW % L).to(tl.int32)
        walk = value // (ROW * L)
        direction = (walk % 4).to(tl.int32)
        source = ((walk // 4 * L + pixel_of(step, direction, H, W)) * 4 + direction) * ROW + value % ROW
        inside = value < size
        tl.store(rows + value, tl.load(proj + source, mask=inside, other=0.0).to(tl.float32), mask=inside)
    else:
        at = (pid - of_rows) * BLOCK + tl.arange(0, BLOCK)
        row = at // C % (N + R)
        channel = at // (C * (N + R)) * C + at % C
        live = at < 4 * (N + R) * C
        a = tl.load(A + channel * N + row, mask=live & (row < N), other=0.0)
        w = tl.load(dt_weight + channel * R + row - N, mask=live & (row >= N), other=0.0)
        tl.store(parameters + at, tl.where(row < N, a, w), mask=live)


@triton.jit
def merge_kernel(part, out, size, PARTS: tl.constexpr, BLOCK: tl.constexpr):
    """out = part[0] + part[1] + ..., always in that order, in out's type."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = at < size
    total = tl.load(part + at, mask=mask, other=0.0).to(tl.float32)
    for _ in tl.static_range(1, PARTS):
        part += size  # a product of both may not fit 32 bits
        total += tl.load(part + at, mask=mask, other=0.0).to(tl.float32)
    tl.store(out + at, total, mask=mask)


@triton.jit
def merge_rows_kernel(
    drows, out, L, H, W, size,
    R: tl.constexpr, N: tl.constexpr, SHARES: tl.constexpr, BLOCKS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """dproj (B, H*W, 4, R + 2N) of `size` values from drows (BLOCKS, B, 4, H*W, SHARES * R + 2N), which is in the order
    of the walks: the sum over blocks and, of the steps, over shares, in order."""
    ROW: tl.constexpr = R + 2 * N
    OUT: tl.constexpr = SHARES * R + 2 * N
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    column = at % ROW
    direction = at // ROW % 4
    pixel = at // (ROW * 4) % L
    image = at // (ROW * 4 * L)
    walked = tl.where(direction < 2, pixel, (W - 1 - pixel % W) * H + pixel // W)
    step = tl.where(direction % 2 == 1, L - 1 - walked, walked)
    live = at < size
    source = drows + ((image * 4 + direction) * L + step) * OUT + column
    total = tl.zeros((BLOCK,), tl.float32)
    for _block in tl.static_range(BLOCKS):
        for share in tl.static_range(SHARES):
            here = live if share == SHARES - 1 else live & (column < R)
            total += tl.load(source + share * R, mask=here, other=0.0).to(tl.float32)
        source += (size // ROW).to(tl.int64) * OUT
    tl.store(out + at, total, mask=live)


@triton.jit
def merge_gradients_kernel(
    gradients, dA, dt_weight, dt_bias, D, parts, C,
    R: tl.constexpr, N: tl.constexpr, OWN: tl.constexpr, BC: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    """The parameters' gradients from `gradients` (parts, 4, shares, OWN + R + 2, C): one row of them for BC channels of
    one direction, the sum over parts and, unless only one share has it, over shares, in order."""
    SHARES: tl.constexpr = N // OWN
    ROWS: tl.constexpr = N + R + 2
    blocks = tl.cdiv(C, BC)
    pid = tl.program_id(0)
    c = pid % blocks * BC + tl.arange(0, BC)
    row = pid // blocks % ROWS
    direction = pid // (blocks * ROWS)
    share = tl.where(row < N, row // OWN, 0)
    last = tl.where(row < N, share, tl.where(row == N + R + 1, 0, SHARES - 1))
    inside = tl.where(row < N, row % OWN, row - N + OWN)
    total = tl.zeros((BC,), tl.float32)
    while share <= last:
        for first in range(0, parts, PARTS):
            part = (first + tl.arange(0, PARTS)[:, None]).to(tl.int64)
            source = gradients + (((part * 4 + direction) * SHARES + share) * (OWN + R + 2) + inside) * C + c[None, :]
            total += tl.sum(tl.load(source, mask=(part < parts) & (c[None, :] < C), other=0.0), axis=0)
        share += 1
    channel = direction * C + c
    tl.store(dA + channel * N + row, total, mask=c < tl.where(row < N, C, 0))
    tl.store(dt_weight + channel * R + row - N, total, mask=c < tl.where((row >= N) & (row < N + R), C, 0))
    tl.store(dt_bias + channel, total, mask=c < tl.where(row == N + R, C, 0))
    tl.store(D + channel, total, mask=c < tl.where(row == N + R + 1, C, 0))
