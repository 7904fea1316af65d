"""Triton kernels of the forward scan, and the pieces they share with the backward.

One thread owns one channel and keeps its states in registers; a program walks its tokens one after another. Tiles put
the states first and the channels last, and pointers carry no alignment promise (`UNALIGNED`): so Triton spreads the
lanes over channels and a sum over states needs no shuffle. Only `proj`, whose row every lane reads, is read in wide
words.
"""

from __future__ import annotations

import triton
import triton.language as tl

CHUNK = 16
"""Tokens between two saved states."""

UNALIGNED = ["x", "A", "dt_weight", "dt_bias", "D", "grad_y", "carry", "total_delta", "part", "states"]

LOG2E = tl.constexpr(1.4426950408889634)
LN2 = tl.constexpr(0.6931471805599453)


@triton.jit
def pixel_of(step, direction, H, W):
    """Row-major pixel that `direction` visits at `step`."""
    walked = tl.where(direction % 2 == 1, H * W - 1 - step, step)
    column = walked // H
    return tl.where(direction < 2, walked, (walked - column * H) * W + W - 1 - column)


@triton.jit
def visited(first, t, direction, H, W, ALIGNED: tl.constexpr):
    """Pixel of step `first + t`. Aligned chunks stay in one column, so that one division serves them all."""
    if ALIGNED:
        stride = tl.where(direction < 2, 1, W) * tl.where(direction % 2 == 1, -1, 1)
        return pixel_of(first, direction, H, W) + t * stride
    return pixel_of(tl.minimum(first + t, H * W - 1), direction, H, W)


@triton.jit
def softplus(z):
    """log(1 + exp(z)) to float32 precision on both sides: log(1 + e) alone loses the digits of a small e."""
    e = tl.exp2(-tl.abs(z) * LOG2E)
    series = e * (1.0 - e * (0.5 - e * (0.3333333333 - e * 0.25)))
    return tl.maximum(z, 0.0) + tl.where(e < 0.015625, series, tl.log2(1.0 + e) * LN2)


@triton.jit
def load_parameters(A, dt_weight, dt_bias, direction, c, C, R, N, RP: tl.constexpr, NP: tl.constexpr):
    """A * log2(e) as (NP, BC), dt_weight as (RP, BC), dt_bias as (BC,); zero beyond C, R and N.

    Both matrices come transposed, (4, N, C) and (4, R, C): the layout of this load becomes the layout of the state."""
    n = tl.arange(0, NP)[:, None]
    r = tl.arange(0, RP)[:, None]
    a = tl.load(A + (direction * N + n) * C + c[None, :], mask=(c[None, :] < C) & (n < N), other=0.0)
    w = tl.load(dt_weight + (direction * R + r) * C + c[None, :], mask=(c[None, :] < C) & (r < R), other=0.0)
    bias = tl.load(dt_bias + direction * C + c, mask=c < C, other=0.0)
    return a * LOG2E, w, bias


@triton.jit
def load_row(base, size: tl.constexpr, padded: tl.constexpr, PAIRS: tl.constexpr):
    """dt, B or C of one token as a (padded, 1) float32 column. PAIRS: bfloat16 read two to a word, one instruction
    to widen each."""
    if PAIRS:
        index = tl.arange(0, padded // 2)
        word = tl.load(base.to(tl.pointer_type(tl.int32)) + index, mask=index < size // 2, other=0)
        low = (word << 16).to(tl.float32, bitcast=True)
        high = (word & -65536).to(tl.float32, bitcast=True)
        return tl.reshape(tl.join(low, high), (padded, 1))
    index = tl.arange(0, padded)
    return tl.load(base + index, mask=index < size, other=0.0).to(tl.float32)[:, None]


@triton.jit
def load_step(row, w, bias, R: tl.constexpr, RP: tl.constexpr, PAIRS: tl.constexpr):
    """Pre-softplus step of one token, (BC,)."""
    return tl.sum(load_row(row, R, RP, PAIRS) * w, axis=0) + bias


@triton.jit(do_not_specialize_on_alignment=UNALIGNED)
def summary_kernel(
    x, proj, A, dt_weight, dt_bias, grad_y, carry, total_delta,
    H, W, C, segments, chunks,
    R: tl.constexpr, N: tl.constexpr, RP: tl.constexpr, NP: tl.constexpr,
    BC: tl.constexpr, CH: tl.constexpr, ALIGNED: tl.constexpr, PAIRS: tl.constexpr, REVERSE: tl.constexpr,
):  # fmt: skip
    """What one segment of the walk does to the state that enters it: the state it leaves when it starts from zero,
    and the sum of its steps (its decay is exp(A * sum)). REVERSE: the same of the adjoint state, walking backwards."""
    blocks = tl.cdiv(C, BC)
    pid = tl.program_id(0)
    c = pid % blocks * BC + tl.arange(0, BC)
    direction = pid // blocks % 4
    segment = pid // (blocks * 4) % segments
    image = (pid // (blocks * 4 * segments)).to(tl.int64)
    L = H * W
    ROW: tl.constexpr = R + 2 * N
    n = tl.arange(0, NP)
    live = c < C
    a, w, bias = load_parameters(A, dt_weight, dt_bias, direction, c, C, R, N, RP, NP)
    h = tl.zeros((NP, BC), tl.float32)
    total = tl.zeros((BC,), tl.float32)
    source = (grad_y if REVERSE else x) + image * L * C + c
    proj += image * L * 4 * ROW + direction * ROW
    begin = segment * chunks
    end = tl.minimum(begin + chunks, tl.cdiv(L, CH))
    for count in range(end - begin):
        first = (end - 1 - count if REVERSE else begin + count) * CH
        for t in tl.static_range(CH - 1 if REVERSE else 0, -1 if REVERSE else CH, -1 if REVERSE else 1):
            pixel = visited(first, t, direction, H, W, ALIGNED)
            row = proj + pixel * (4 * ROW)
            valid = live if ALIGNED else c < tl.where(first + t < L, C, 0)
            delta = softplus(load_step(row, w, bias, R, RP, PAIRS))
            value = tl.load(source + pixel * C, mask=valid, other=0.0).to(tl.float32)
            total += delta
            decay = tl.exp2(delta[None, :] * a)
            if REVERSE:
                h = decay * (h + value[None, :] * load_row(row + R + N, N, NP, PAIRS))
            else:
                h = decay * h + (delta * value)[None, :] * load_row(row + R, N, NP, PAIRS)
    slot = (image * 4 + direction) * segments + segment
    out = carry + (slot * N + n[:, None]) * C + c[None, :]
    tl.store(out, h, mask=(n[:, None] < N) & live[None, :])
    tl.store(total_delta + slot * C + c, total, mask=live)


@triton.jit(do_not_specialize_on_alignment=UNALIGNED)
def combine_kernel(
    A, carry, total_delta, C, segments, N: tl.constexpr, NP: tl.constexpr, BC: tl.constexpr, REVERSE: tl.constexpr
):
    """Replaces each segment's own result by the state that enters it, walking the segments in order."""
    blocks = tl.cdiv(C, BC)
    pid = tl.program_id(0)
    c = pid % blocks * BC + tl.arange(0, BC)
    direction = pid // blocks % 4
    image = (pid // (blocks * 4)).to(tl.int64)
    n = tl.arange(0, NP)
    mask = (n[:, None] < N) & (c[None, :] < C)
    a = tl.load(A + (direction * N + n[:, None]) * C + c[None, :], mask=mask, other=0.0) * LOG2E
    h = tl.zeros((NP, BC), tl.float32)
    for count in range(segments):
        slot = (image * 4 + direction) * segments + (segments - 1 - count if REVERSE else count)
        at = carry + (slot * N + n[:, None]) * C + c[None, :]
        own = tl.load(at, mask=mask, other=0.0)
        total = tl.load(total_delta + slot * C + c, mask=c < C, other=0.0)
        tl.store(at, h, mask=mask)
        h = tl.exp2(total[None, :] * a) * h + own


@triton.jit(do_not_specialize_on_alignment=UNALIGNED)
def scan_kernel(
    x, proj, A, dt_weight, dt_bias, D, carry, part, states,
    H, W, C, segments, chunks,
    R: tl.constexpr, N: tl.constexpr, RP: tl.constexpr, NP: tl.constexpr,
    BC: tl.constexpr, CH: tl.constexpr, ALIGNED: tl.constexpr, PAIRS: tl.constexpr, SEGMENTED: tl.constexpr,
    KEEP: tl.constexpr,
):  # fmt: skip
    """One direction of one image's segment: y_k into `part` (4, B, H*W, C) and, to KEEP them for a backward, the state
    that enters each chunk into `states` (B, 4, chunks, N, C)."""
    blocks = tl.cdiv(C, BC)
    pid = tl.program_id(0)
    c = pid % blocks * BC + tl.arange(0, BC)
    direction = pid // blocks % 4
    segment = pid // (blocks * 4) % segments
    image = (pid // (blocks * 4 * segments)).to(tl.int64)
    images = tl.num_programs(0) // (blocks * 4 * segments)
    L = H * W
    all_chunks = tl.cdiv(L, CH)
    ROW: tl.constexpr = R + 2 * N
    n = tl.arange(0, NP)
    live = c < C
    state_mask = (n[:, None] < N) & live[None, :]
    a, w, bias = load_parameters(A, dt_weight, dt_bias, direction, c, C, R, N, RP, NP)
    skip = tl.load(D + direction * C + c, mask=live, other=0.0)
    h = tl.zeros((NP, BC), tl.float32)
    if SEGMENTED:
        slot = (image * 4 + direction) * segments + segment
        h = tl.load(carry + (slot * N + n[:, None]) * C + c[None, :], mask=state_mask, other=0.0)
    x += image * L * C + c
    part += (direction * images + image) * L * C + c
    proj += image * L * 4 * ROW + direction * ROW
    begin = segment * chunks
    end = tl.minimum(begin + chunks, all_chunks)
    for chunk in range(begin, end):
        if KEEP:
            slot = (image * 4 + direction) * all_chunks + chunk
            tl.store(states + (slot * N + n[:, None]) * C + c[None, :], h, mask=state_mask)
        first = chunk * CH
        for t in tl.static_range(CH):
            pixel = visited(first, t, direction, H, W, ALIGNED)
            row = proj + pixel * (4 * ROW)
            valid = live if ALIGNED else c < tl.where(first + t < L, C, 0)
            value = tl.load(x + pixel * C, mask=valid, other=0.0).to(tl.float32)
            delta = softplus(load_step(row, w, bias, R, RP, PAIRS))
            drive = (delta * value)[None, :] * load_row(row + R, N, NP, PAIRS)
            h = tl.exp2(delta[None, :] * a) * h + drive
            y = skip * value + tl.sum(h * load_row(row + R + N, N, NP, PAIRS), axis=0)
            tl.store(part + pixel * C, y, mask=valid)


@triton.jit
def merge_kernel(part, out, size, PARTS: tl.constexpr, BLOCK: tl.constexpr):
    """out = part[0] + part[1] + ..., always in that order, in out's type."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = at < size
    total = tl.load(part + at, mask=mask, other=0.0)
    for p in tl.static_range(1, PARTS):
        total += tl.load(part + p * size + at, mask=mask, other=0.0)
    tl.store(out + at, total, mask=mask)
