"""Triton kernels of the forward scan: the walk in one pass, or in segments that are summarised, combined and then run
at once."""

from __future__ import annotations

import triton
import triton.language as tl

from hymunet.ops.triton_steps import MANY_RANKS, expand, load_deltas, load_dt, load_weight_terms
from hymunet.ops.triton_walk import (
    LOG2E,
    STATE_BLOCK,
    UNALIGNED,
    keep_touches,
    load_parameters,
    load_row,
    load_values,
    locate,
    pixel_of,
    pixels_of,
    prefetch,
    row_of,
    sectors_of_map,
    state_offset,
    store_value,
    sum_states,
    touch_rows,
)


@triton.jit(do_not_specialize_on_alignment=UNALIGNED)
def summary_kernel(
    x, rows, parameters, dt_bias, grad_y, carry, total_delta, unread,
    H, W, C, segments, chunks,
    R: tl.constexpr, N: tl.constexpr, OWN: tl.constexpr, RT: tl.constexpr, NP: tl.constexpr,
    BC: tl.constexpr, CH: tl.constexpr, ALIGNED: tl.constexpr, REVERSE: tl.constexpr,
    SECTORS: tl.constexpr, PREFETCH: tl.constexpr,
):  # fmt: skip
    """What a segment of the walk, each but the last, does to the state that enters it: the state it leaves when it
    starts from zero, and the sum of its steps (its decay is exp(A * sum)). REVERSE: the same of the adjoint state,
    walking backwards, each but the first."""
    block, share, direction, segment, image, _ = locate(tl.program_id(0), C, segments - 1, BC, N // OWN)
    segment += REVERSE
    c = block * BC + tl.arange(0, BC)
    L = H * W
    ROW: tl.constexpr = R + 2 * N
    n = tl.arange(0, NP)
    a, w, bias = load_parameters(parameters, dt_bias, direction, share, c, C, R, N, OWN, RT, NP)
    a *= LOG2E
    h = tl.zeros((NP, BC), tl.float32)
    total = tl.zeros((BC,), tl.float32)
    image_map = (grad_y if REVERSE else x) + image * L * C
    source = image_map + c
    rows += (image * 4 + direction) * L * ROW
    across = R + share * OWN + (N if REVERSE else 0)
    begin = segment * chunks
    end = tl.minimum(begin + chunks, tl.cdiv(L, CH))
    stride = -CH if REVERSE else CH
    first = (end - 1 if REVERSE else begin) * CH
    ahead = touch_rows(rows, first, L, ROW, CH, SECTORS)
    touched = tl.zeros(ahead.shape, tl.float32)
    start, following = pixel_of(first, direction, H, W), pixel_of(tl.maximum(first + stride, 0), direction, H, W)
    for _ in range(end - begin):
        deltas = load_deltas(rows, w, bias, first, L, R, ROW, RT, CH, ALIGNED)
        touched += ahead
        ahead = touch_rows(rows, tl.minimum(tl.maximum(first + stride, 0), L - 1), L, ROW, CH, SECTORS)
        later = pixel_of(tl.maximum(first + 2 * stride, 0), direction, H, W)
        if PREFETCH:
            prefetch(sectors_of_map(image_map, later, direction, H, W, C, block, BC, CH))
        pixels = pixels_of(start, first, direction, H, W, CH, ALIGNED)
        values = load_values(source, pixels, C, c, first, L, CH, ALIGNED)
        b = load_row(row_of(rows, first, CH - 1 if REVERSE else 0, L - 1, ROW, ALIGNED) + across, OWN, NP)
        for i in tl.static_range(CH):
            now_b = b
            if i + 1 < CH:
                b = load_row(
                    row_of(rows, first, CH - 2 - i if REVERSE else i + 1, L - 1, ROW, ALIGNED) + across, OWN, NP
                )
            value, delta = values[CH - 1 - i if REVERSE else i], deltas[CH - 1 - i if REVERSE else i]
            total += delta
            decay = tl.exp2(delta[None, :] * a)
            h = decay * (h + value[None, :] * now_b) if REVERSE else decay * h + (delta * value)[None, :] * now_b
        first += stride
        start, following = following, later
    keep_touches(unread, touched)
    slot = (image * 4 + direction) * segments + segment
    out = carry + (slot * N + share * OWN + n[:, None]) * C + c[None, :]
    tl.store(out, h, mask=(n[:, None] < OWN) & (c[None, :] < C))
    tl.store(total_delta + slot * C + c, total, mask=c < tl.where(share == 0, C, 0))


@triton.jit
def then(decay, state, later_decay, later_state):
    """Two stretches of a walk, one after the other."""
    return decay * later_decay, state * later_decay + later_state


@triton.jit(do_not_specialize_on_alignment=UNALIGNED)
def combine_kernel(
    parameters, carry, total_delta, C, segments,
    R: tl.constexpr, N: tl.constexpr, SP: tl.constexpr, BC: tl.constexpr, REVERSE: tl.constexpr,
):  # fmt: skip
    """Replaces each segment's own result by the state that enters it, for one state of BC channels of one walk."""
    blocks = tl.cdiv(C, BC)
    pid = tl.program_id(0)
    c = (pid % blocks * BC + tl.arange(0, BC))[None, :]
    n = pid // blocks % N
    direction = pid // (blocks * N) % 4
    image = (pid // (blocks * N * 4)).to(tl.int64)
    count = tl.arange(0, SP)[:, None]
    segment = segments - 1 - count if REVERSE else count
    slot = (image * 4 + direction) * segments + segment
    mask = (count < segments - 1) & (c < C)
    own = tl.load(carry + (slot * N + n) * C + c, mask=mask, other=0.0)
    total = tl.load(total_delta + slot * C + c, mask=mask, other=0.0)
    a = tl.load(parameters + (direction * (N + R) + n) * C + c, mask=c < C, other=0.0) * LOG2E
    _, left = tl.associative_scan((tl.exp2(total * a), own), 0, then)
    following = slot - 1 if REVERSE else slot + 1
    tl.store(carry + (following * N + n) * C + c, left, mask=mask)
    tl.store(carry + (slot * N + n) * C + c, tl.zeros((SP, BC), tl.float32), mask=(count == 0) & (c < C))


@triton.jit(do_not_specialize_on_alignment=UNALIGNED)
def scan_kernel(
    x, rows, parameters, dt_bias, D, carry, part, states, unread,
    H, W, C, segments, chunks,
    R: tl.constexpr, N: tl.constexpr, OWN: tl.constexpr, RT: tl.constexpr, NP: tl.constexpr,
    BC: tl.constexpr, CH: tl.constexpr, ALIGNED: tl.constexpr, SEGMENTED: tl.constexpr, KEEP: tl.constexpr,
    SECTORS: tl.constexpr, PREFETCH: tl.constexpr,
):  # fmt: skip
    """One direction of one image's segment, OWN of the N states: their part of y_k into `part` (4 * shares, B, H*W, C)
    and, to KEEP them for a backward, the state that enters each chunk into `states` (B, 4, chunks, blocks of channels,
    N, 32)."""
    SHARES: tl.constexpr = N // OWN
    PRODUCTS: tl.constexpr = R >= MANY_RANKS and part.dtype.element_ty == tl.bfloat16
    TERM: tl.constexpr = tl.bfloat16 if PREFETCH else tl.float32
    block, share, direction, segment, image, images = locate(tl.program_id(0), C, segments, BC, SHARES)
    c = block * BC + tl.arange(0, BC)
    L = H * W
    all_chunks = tl.cdiv(L, CH)
    ROW: tl.constexpr = R + 2 * N
    n = tl.arange(0, NP)[:, None]
    state_mask = (n < OWN) & (c[None, :] < C)
    own = (share * OWN + n) * C + c[None, :]
    a, w, bias = load_parameters(parameters, dt_bias, direction, share, c, C, R, N, OWN, RT, NP)
    a *= LOG2E
    skip = tl.load(D + direction * C + c, mask=c < tl.where(share == 0, C, 0), other=0.0)
    h = tl.zeros((NP, BC), tl.float32)
    if SEGMENTED:
        slot = (image * 4 + direction) * segments + segment
        h = tl.load(carry + slot * N * C + own, mask=state_mask, other=0.0)
    image_x = x + image * L * C
    x += image * L * C + c
    part += ((direction * SHARES + share) * images + image) * L * C + c
    rows += (image * 4 + direction) * L * ROW
    own_b = R + share * OWN
    state_size = tl.cdiv(C, STATE_BLOCK) * (N * STATE_BLOCK)
    kept = state_offset(block, share, n, N, OWN, BC)
    begin = segment * chunks
    end = tl.minimum(begin + chunks, all_chunks)
    ahead = touch_rows(rows, begin * CH, L, ROW, CH, SECTORS)
    touched = tl.zeros(ahead.shape, tl.float32)
    start, following = pixel_of(begin * CH, direction, H, W), pixel_of((begin + 1) * CH, direction, H, W)
    near = tl.load(sectors_of_map(image_x, start, direction, H, W, C, block, BC, CH))
    seen = tl.zeros(near.shape, tl.float32)
    if PRODUCTS:  # a chunk ahead, because it takes long
        terms = load_weight_terms(parameters, direction, block, C, R, N, BC, TERM)
        deltas = expand(terms, load_dt(rows, begin * CH, L, R, ROW), bias, TERM)
        dt = load_dt(rows, (begin + 1) * CH, L, R, ROW)
    for chunk in range(begin, end):
        if KEEP:
            saved = states + ((image * 4 + direction) * all_chunks + chunk) * state_size
            if ALIGNED and NP == OWN:
                tl.store(saved + kept, h)
            else:
                tl.store(saved + kept, h, mask=state_mask)
        first = chunk * CH
        touched += ahead
        seen += near.to(tl.float32)
        if PRODUCTS:
            coming = expand(terms, dt, bias, TERM)
        else:
            deltas = load_deltas(rows, w, bias, first, L, R, ROW, RT, CH, ALIGNED)
        row = row_of(rows, first, 0, L - 1, ROW, ALIGNED) + own_b
        b, read = load_row(row, OWN, NP), load_row(row + N, OWN, NP)
        pixels = pixels_of(start, first, direction, H, W, CH, ALIGNED)
        values = load_values(x, pixels, C, c, first, L, CH, ALIGNED)
        ahead = touch_rows(rows, tl.minimum(first + CH, L - 1), L, ROW, CH, SECTORS)
        if PRODUCTS:
            dt = load_dt(rows, first + 2 * CH, L, R, ROW)
        near = tl.load(sectors_of_map(image_x, following, direction, H, W, C, block, BC, CH))
        later = pixel_of(first + 2 * CH, direction, H, W)
        if PREFETCH:
            prefetch(sectors_of_map(image_x, later, direction, H, W, C, block, BC, CH))
        for t in tl.static_range(CH):
            now_b, now_read = b, read
            if t + 1 < CH:
                row = row_of(rows, first, t + 1, L - 1, ROW, ALIGNED) + own_b
                b, read = load_row(row, OWN, NP), load_row(row + N, OWN, NP)
            delta, value = deltas[t], values[t]
            h = tl.exp2(delta[None, :] * a) * h + (delta * value)[None, :] * now_b
            y = skip * value + sum_states(h * now_read)
            store_value(part, y, pixels[t], C, c, first + t, L, ALIGNED)
        start, following = following, later
        if PRODUCTS:
            deltas = coming
    keep_touches(unread, touched)
    keep_touches(unread, seen)
