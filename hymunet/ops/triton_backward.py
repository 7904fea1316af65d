"""Triton kernel of the scan's gradients. No atomics: every sum over programs goes through partial results that are
added in a fixed order, so that two runs give the same bits.

A chunk is walked forwards once, its states kept in registers, and then backwards. So a program can hold few states:
several programs share the states of a channel, and each adds its part to whatever is a sum over states."""

# ruff: noqa: RUF005  (Triton has no starred tuples)
# mypy: disable-error-code="assignment"
from __future__ import annotations

import triton
import triton.language as tl

from hymunet.ops.triton_steps import MANY_RANKS, RANK_TILE, load_deltas, load_dt, load_ranks, stack, weight_gradients
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


@triton.jit
def stack_eight(tiles):
    low = stack(stack(tiles[0], tiles[1]), stack(tiles[2], tiles[3]))
    high = stack(stack(tiles[4], tiles[5]), stack(tiles[6], tiles[7]))
    return stack(low, high)


@triton.jit
def equal(a, b):
    """1.0 where two integers are equal, else 0.0, by arithmetic alone."""
    return 1.0 - tl.minimum(tl.abs(a - b), 1).to(tl.float32)


@triton.jit
def first_of(a, b):
    return a


@triton.jit
def as_operand(tile):
    """The same tile. Triton lays an operand of `dot` out for the narrowest type and the joins that it sees on the way
    to it; it does not look past a reduction, and so takes the layout of the tile's own type, in which it lies."""
    return tl.reduce(tl.reshape(tile, (tile.shape[0], tile.shape[1], 1)), 2, first_of)


@triton.jit
def sum_channels(tile, TOKENS: tl.constexpr, EXACT: tl.constexpr):
    """Sums over the 32 channels of a (TOKENS * V, 32) tile, V values of eight tokens: (TOKENS, V), or padded to 16.

    Two products on the matrix units, and nothing is moved between lanes for them: lane 4g + t holds a channel's V
    values, which is how an operand of 4V rows and 8 columns per token lies when row 8i + 2t + j is value 2i + j of
    lanes t. The first product sums over t; its result lies as the second takes it, which sums over g. EXACT adds
    float32 terms across the lanes."""
    V: tl.constexpr = tile.shape[0] // TOKENS
    M: tl.constexpr = V if V > 16 else 16
    if EXACT:
        sums = tl.reshape(tl.sum(tile, axis=1), (TOKENS, V))
    else:
        row = tl.arange(0, 4 * V)[None, :]
        same_value = equal(row // 8 * 2 + row % 2, tl.arange(0, M)[:, None]).to(tile.dtype)
        column = tl.arange(0, 8 * TOKENS)[None, :]
        same_token = equal(column // 8, tl.arange(0, 16)[:, None]).to(tile.dtype)
        lanes = tl.permute(tl.reshape(tile, (TOKENS, V // 2, 2, 8, 4)), (1, 4, 2, 0, 3))
        groups = tl.dot(same_value, as_operand(tl.reshape(lanes, (4 * V, 8 * TOKENS))), input_precision="ieee")
        sums = tl.dot(same_token, as_operand(tl.trans(groups.to(tile.dtype))), input_precision="ieee")
    return sums


@triton.jit
def project(w, logits, TERM: tl.constexpr):
    """w (rows, BC) times the eight (1, BC) `logits` of a chunk as columns: (rows, 8)."""
    columns = as_operand(stack_eight(logits).to(TERM))
    return tl.dot(w.to(TERM), tl.trans(columns), input_precision="ieee")


@triton.jit(do_not_specialize_on_alignment=[*UNALIGNED, "dx", "drows", "gradients"])
def backward_kernel(
    x, rows, parameters, dt_bias, D, grad_y, carry, turns, states, dx, drows, gradients, unread,
    H, W, C, segments, chunks,
    R: tl.constexpr, N: tl.constexpr, OWN: tl.constexpr, RT: tl.constexpr, NP: tl.constexpr,
    BC: tl.constexpr, CH: tl.constexpr, ALIGNED: tl.constexpr, SEGMENTED: tl.constexpr, RELAY: tl.constexpr,
    EXACT: tl.constexpr, RANKS: tl.constexpr, SECTORS: tl.constexpr, PREFETCH: tl.constexpr,
):  # fmt: skip
    """One direction of one image's segment, walked backwards, OWN of the N states. In a RELAY a segment takes the
    adjoint state from the program that walked the one behind it: programs take their work in the order in which they
    start, the last segments first, so whoever is waited for has started. Partial gradients: dx
    (4 * shares, B, H*W, C), drows (channel blocks, B, H*W, 4, shares * R + 2N) and, of A, dt_weight, dt_bias and D,
    gradients (B * segments, 4, shares, OWN + R + 2, C)."""
    SHARES: tl.constexpr = N // OWN
    pid = tl.program_id(0)
    if RELAY:
        pid = tl.num_programs(0) - 1 - tl.atomic_add(turns, 1)
    block, share, direction, segment, image, images = locate(pid, C, segments, BC, SHARES)
    c = block * BC + tl.arange(0, BC)
    live = c < C
    L = H * W
    all_chunks = tl.cdiv(L, CH)
    ROW: tl.constexpr = R + 2 * N
    OUT: tl.constexpr = SHARES * R + 2 * N
    TERM: tl.constexpr = drows.dtype.element_ty
    PRODUCTS: tl.constexpr = R >= MANY_RANKS and dx.dtype.element_ty == tl.bfloat16
    GT: tl.constexpr = RANK_TILE if PRODUCTS else RT
    n = tl.arange(0, NP)[:, None]
    state_mask = (n < OWN) & live[None, :]
    own = (share * OWN + n) * C + c[None, :]
    own_b = R + share * OWN
    a, w, bias = load_parameters(parameters, dt_bias, direction, share, c, C, R, N, OWN, RT, NP)
    skip = tl.load(D + direction * C + c, mask=c < tl.where(share == 0, C, 0), other=0.0)
    image_x = x + image * L * C
    image_grad = grad_y + image * L * C
    x += image * L * C + c
    grad_y += image * L * C + c
    dx += ((direction * SHARES + share) * images + image) * L * C + c
    rows += (image * 4 + direction) * L * ROW
    drows += ((block * images + image) * 4 + direction) * L * OUT
    adjoint = tl.zeros((NP, BC), tl.float32)
    if SEGMENTED:
        slot = (image * 4 + direction) * segments + segment
        mask = state_mask
        if RELAY:
            turn = turns + 1 + pid % (tl.num_programs(0) // segments)
            mask = state_mask & (segment < segments - 1)
            while tl.atomic_add(turn, 0, sem="acquire") < segments - 1 - segment:
                pass
        adjoint = tl.load(carry + slot * N * C + own, mask=mask, other=0.0, cache_modifier=".cg")
    grad_a = tl.zeros((NP, BC), tl.float32)
    grad_w = ()
    for _ in tl.static_range((R + GT - 1) // GT):
        grad_w = grad_w + (tl.zeros((BC, GT) if PRODUCTS else (GT, BC), tl.float32),)
    grad_bias = tl.zeros((BC,), tl.float32)
    grad_skip = tl.zeros((BC,), tl.float32)
    rank = tl.arange(0, RANKS)[:, None]
    w_rows = tl.load(
        parameters + (direction * (N + R) + N + rank) * C + c[None, :], mask=live[None, :] & (rank < R), other=0.0
    )

    state_size = tl.cdiv(C, STATE_BLOCK) * (N * STATE_BLOCK)
    kept = state_offset(block, share, n, N, OWN, BC)
    begin = segment * chunks
    end = tl.minimum(begin + chunks, all_chunks)
    ahead = touch_rows(rows, (end - 1) * CH, L, ROW, CH, SECTORS)
    touched = tl.zeros(ahead.shape, tl.float32)
    start = pixel_of((end - 1) * CH, direction, H, W)
    following = pixel_of(tl.maximum(end - 2, 0) * CH, direction, H, W)
    for count in range(end - begin):
        chunk = end - 1 - count
        first = chunk * CH
        touched += ahead
        deltas = load_deltas(rows, w, bias, first, L, R, ROW, RT, CH, ALIGNED)
        saved = states + ((image * 4 + direction) * all_chunks + chunk) * state_size
        if ALIGNED and NP == OWN:
            h = tl.load(saved + kept)
        else:
            h = tl.load(saved + kept, mask=state_mask, other=0.0)
        b = load_row(row_of(rows, first, 0, L - 1, ROW, ALIGNED) + own_b, OWN, NP)
        pixels = pixels_of(start, first, direction, H, W, CH, ALIGNED)
        values = load_values(x, pixels, C, c, first, L, CH, ALIGNED)
        grads = load_values(grad_y, pixels, C, c, first, L, CH, ALIGNED)
        ahead = touch_rows(rows, tl.maximum(first - CH, 0), L, ROW, CH, SECTORS)
        before = pixel_of(tl.maximum(first - 2 * CH, 0), direction, H, W)
        if PREFETCH:
            prefetch(sectors_of_map(image_x, before, direction, H, W, C, block, BC, CH))
            prefetch(sectors_of_map(image_grad, before, direction, H, W, C, block, BC, CH))
            sector = (block * N + share * OWN + n % OWN) * STATE_BLOCK + tl.arange(0, STATE_BLOCK // 8)[None, :] * 8
            prefetch(tl.where(chunk > 1, saved - 2 * state_size, saved) + sector)
        history = (h,)
        for t in tl.static_range(CH):
            now_b = b
            if t + 1 < CH:
                b = load_row(row_of(rows, first, t + 1, L - 1, ROW, ALIGNED) + own_b, OWN, NP)
            h = tl.exp2(deltas[t][None, :] * (a * LOG2E)) * h + (deltas[t] * values[t])[None, :] * now_b
            history = history + (h,)
        read = load_row(row_of(rows, first, CH - 1, L - 1, ROW, ALIGNED) + own_b + N, OWN, NP)
        out = drows + first * OUT
        logits = ()
        tiles = ()
        for t in tl.static_range(CH - 1, -1, -1):
            now_b, now_read = b, read
            if t > 0:
                row = row_of(rows, first, t - 1, L - 1, ROW, ALIGNED) + own_b
                b, read = load_row(row, OWN, NP), load_row(row + N, OWN, NP)
            delta, value, gy = deltas[t], values[t], grads[t]
            adjoint += gy[None, :] * now_read
            through_b = sum_states(adjoint * now_b)
            to_bc = stack((adjoint * (delta * value)[None, :]).to(TERM), (history[t + 1] * gy[None, :]).to(TERM))
            adjoint = tl.exp2((delta * LOG2E)[None, :] * a) * adjoint  # again, where keeping it would cost registers
            flow = adjoint * history[t]
            grad_a += flow * delta[None, :]
            grad_delta = value * through_b + sum_states(flow * a)
            store_value(dx, delta * through_b + skip * gy, pixels[t], C, c, first + t, L, ALIGNED)
            grad_skip += gy * value
            grad_logit = grad_delta * (1.0 - tl.exp2(-delta * LOG2E))
            grad_bias += grad_logit
            logits = (grad_logit[None, :],) + logits
            tiles = (to_bc,) + tiles
        sums = sum_channels(stack_eight(tiles), CH, EXACT)
        t = tl.arange(0, sums.shape[0])[:, None]
        m = tl.arange(0, sums.shape[1])[None, :]
        at = out + SHARES * R + share * OWN + t * OUT + m // NP * N + m % NP
        tl.store(at, sums, mask=(t < CH) & (m < 2 * NP) & (m % NP < OWN) & (first + t < L))
        token = tl.arange(0, CH)[None, :]
        if PRODUCTS:
            grad_w = weight_gradients(grad_w, stack_eight(logits), load_dt(rows, first, L, R, ROW), TERM)
        else:
            for t in tl.static_range(CH):
                raw = load_ranks(row_of(rows, first, t, L - 1, ROW, ALIGNED), R, RT)
                added = ()
                for i in tl.static_range((R + RT - 1) // RT):
                    added = added + (grad_w[i] + logits[t] * raw[i],)
                grad_w = added
        live_rank = (rank < R) & (first + token < L)
        tl.store(out + share * R + token * OUT + rank, project(w_rows, logits, TERM), mask=live_rank)
        start, following = following, before
    if RELAY:
        before = (image * 4 + direction) * segments + tl.maximum(segment - 1, 0)
        tl.store(carry + before * N * C + own, adjoint, mask=state_mask & (segment > 0))
        tl.debug_barrier()
        tl.atomic_add(turn, 1, sem="release")
    keep_touches(unread, touched)
    slot = ((image * segments + segment) * 4 + direction) * SHARES + share
    gradients += slot * (OWN + R + 2) * C + c[None, :]
    tl.store(gradients + n * C, grad_a, mask=state_mask)
    for i in tl.static_range((R + GT - 1) // GT):
        r = i * GT + tl.arange(0, GT)[:, None]
        value = tl.trans(grad_w[i]) if PRODUCTS else grad_w[i]
        tl.store(gradients + (OWN + r) * C, value, mask=(r < R) & live[None, :])
    tl.store(gradients + (OWN + R) * C, grad_bias[None, :], mask=live[None, :])
    tl.store(gradients + (OWN + R + 1) * C, grad_skip[None, :], mask=live[None, :])
