"""Triton kernel of the scan's gradients. No atomics: every sum over programs goes through partial results that are
added in a fixed order, so that two runs give the same bits."""

# ruff: noqa: RUF005  (Triton has no starred tuples)
# mypy: disable-error-code="assignment"
from __future__ import annotations

import triton
import triton.language as tl

from hymunet.ops.triton_forward import LN2, LOG2E, UNALIGNED, load_parameters, load_row, load_step, softplus, visited

GROUP = 4
"""Steps whose states and decays are held in registers at a time."""


@triton.jit
def stack(a, b):
    """Two (rows, BC) tiles one above the other, without leaving the registers."""
    rows: tl.constexpr = a.shape[0]
    columns: tl.constexpr = a.shape[1]
    return tl.reshape(tl.permute(tl.join(a, b), (2, 0, 1)), (2 * rows, columns))


@triton.jit
def sum_channels(tile, EXACT: tl.constexpr, BC: tl.constexpr):
    """Row sums, in column 0 of a (rows, 16) result. On the matrix units a row sum is a product with ones: bfloat16
    terms, float32 sum. EXACT keeps float32 terms."""
    if EXACT:
        return tl.broadcast_to(tl.sum(tile, axis=1)[:, None], (tile.shape[0], 16))
    return tl.dot(tile.to(tl.bfloat16), tl.full((BC, 16), 1.0, tl.bfloat16))


@triton.jit(do_not_specialize_on_alignment=[*UNALIGNED, "dx", "dproj", "dA", "dW", "dbias", "dD"])
def backward_kernel(
    x, proj, A, dt_weight, dt_bias, D, grad_y, carry, states, dx, dproj, dA, dW, dbias, dD,
    H, W, C, segments, chunks,
    R: tl.constexpr, N: tl.constexpr, RP: tl.constexpr, NP: tl.constexpr, BC: tl.constexpr, CH: tl.constexpr,
    GROUP: tl.constexpr, ALIGNED: tl.constexpr, PAIRS: tl.constexpr, SEGMENTED: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """One direction of one image's segment, walked backwards. Partial gradients, all float32: dx (4, B, H*W, C),
    dproj (channel blocks, B, H*W, 4, R + 2N), dA (B * segments, 4, N, C), dW (B * segments, 4, R, C),
    dbias and dD (B * segments, 4, C)."""
    blocks = tl.cdiv(C, BC)
    pid = tl.program_id(0)
    block = pid % blocks
    c = block * BC + tl.arange(0, BC)
    direction = pid // blocks % 4
    segment = pid // (blocks * 4) % segments
    image = (pid // (blocks * 4 * segments)).to(tl.int64)
    images = tl.num_programs(0) // (blocks * 4 * segments)
    L = H * W
    all_chunks = tl.cdiv(L, CH)
    ROW: tl.constexpr = R + 2 * N
    GROUPS: tl.constexpr = CH // GROUP
    n = tl.arange(0, NP)
    live = c < C
    state_mask = (n[:, None] < N) & live[None, :]
    a, w, bias = load_parameters(A, dt_weight, dt_bias, direction, c, C, R, N, RP, NP)
    skip = tl.load(D + direction * C + c, mask=live, other=0.0)
    x += image * L * C + c
    grad_y += image * L * C + c
    dx += (direction * images + image) * L * C + c
    proj += image * L * 4 * ROW + direction * ROW
    dproj += (block * images + image) * L * 4 * ROW + direction * ROW
    adjoint = tl.zeros((NP, BC), tl.float32)
    if SEGMENTED:
        slot = (image * 4 + direction) * segments + segment
        adjoint = tl.load(carry + (slot * N + n[:, None]) * C + c[None, :], mask=state_mask, other=0.0)
    grad_a = tl.zeros((NP, BC), tl.float32)
    grad_w = tl.zeros((RP, BC), tl.float32)
    grad_bias = tl.zeros((BC,), tl.float32)
    grad_skip = tl.zeros((BC,), tl.float32)
    step_row = tl.arange(0, 2 * RP)[:, None]
    state_row = tl.arange(0, 4 * NP)[:, None]
    column = tl.arange(0, 16)[None, :]

    begin = segment * chunks
    end = tl.minimum(begin + chunks, all_chunks)
    for count in range(end - begin):
        chunk = end - 1 - count
        first = chunk * CH
        slot = (image * 4 + direction) * all_chunks + chunk
        h = tl.load(states + (slot * N + n[:, None]) * C + c[None, :], mask=state_mask, other=0.0)
        starts = (h,)
        deltas = ()
        values = ()
        for t in tl.static_range(CH):
            pixel = visited(first, t, direction, H, W, ALIGNED)
            row = proj + pixel * (4 * ROW)
            valid = live if ALIGNED else c < tl.where(first + t < L, C, 0)
            delta = softplus(load_step(row, w, bias, R, RP, PAIRS))
            value = tl.load(x + pixel * C, mask=valid, other=0.0).to(tl.float32)
            deltas = deltas + (delta,)
            values = values + (value,)
            if t < CH - GROUP:
                h = tl.exp2(delta[None, :] * a) * h + (delta * value)[None, :] * load_row(row + R, N, NP, PAIRS)
                if t % GROUP == GROUP - 1:
                    starts = starts + (h,)
        for group in tl.static_range(GROUPS - 1, -1, -1):
            h = starts[group]
            history = (h,)
            decays = ()
            for j in tl.static_range(GROUP):
                row = proj + visited(first, group * GROUP + j, direction, H, W, ALIGNED) * (4 * ROW)
                delta = deltas[group * GROUP + j]
                drive = (delta * values[group * GROUP + j])[None, :] * load_row(row + R, N, NP, PAIRS)
                decay = tl.exp2(delta[None, :] * a)
                h = decay * h + drive
                decays = decays + (decay,)
                history = history + (h,)
            for j in tl.static_range(GROUP - 1, -1, -1):
                pixel = visited(first, group * GROUP + j, direction, H, W, ALIGNED)
                valid = live if ALIGNED else c < tl.where(first + group * GROUP + j < L, C, 0)
                row = proj + pixel * (4 * ROW)
                delta = deltas[group * GROUP + j]
                value = values[group * GROUP + j]
                gy = tl.load(grad_y + pixel * C, mask=valid, other=0.0).to(tl.float32)
                adjoint += gy[None, :] * load_row(row + R + N, N, NP, PAIRS)
                through_b = tl.sum(adjoint * load_row(row + R, N, NP, PAIRS), axis=0)
                to_bc = stack(adjoint * (delta * value)[None, :], history[j + 1] * gy[None, :])
                adjoint = decays[j] * adjoint
                flow = adjoint * history[j]
                grad_a += flow * delta[None, :]
                grad_delta = value * through_b + tl.sum(flow * a, axis=0) * LN2
                tl.store(dx + pixel * C, delta * through_b + skip * gy, mask=valid)
                grad_skip += gy * value
                grad_logit = grad_delta * (1.0 - tl.exp2(-delta * LOG2E))
                grad_bias += grad_logit
                grad_w += grad_logit[None, :] * load_row(row, R, RP, PAIRS)
                to_dt = grad_logit[None, :] * w
                if j % 2 == 1:
                    later_bc = to_bc
                    later_dt = to_dt
                else:
                    t = group * GROUP + j + state_row // (2 * NP)
                    m = state_row % NP
                    out = dproj + visited(first, t, direction, H, W, ALIGNED) * (4 * ROW) + R + state_row // NP % 2 * N
                    sums = sum_channels(stack(to_bc, later_bc), EXACT, BC)
                    tl.store(out + m + column, sums, mask=(column == 0) & (m < N) & (first + t < L))
                    t = group * GROUP + j + step_row // RP
                    m = step_row % RP
                    out = dproj + visited(first, t, direction, H, W, ALIGNED) * (4 * ROW)
                    sums = sum_channels(stack(to_dt, later_dt), EXACT, BC)
                    tl.store(out + m + column, sums, mask=(column == 0) & (m < R) & (first + t < L))
    slot = (image * segments + segment) * 4 + direction
    r = tl.arange(0, RP)
    tl.store(dA + (slot * N + n[:, None]) * C + c[None, :], grad_a, mask=state_mask)
    tl.store(dW + (slot * R + r[:, None]) * C + c[None, :], grad_w, mask=(r[:, None] < R) & live[None, :])
    tl.store(dbias + slot * C + c, grad_bias, mask=live)
    tl.store(dD + slot * C + c, grad_skip, mask=live)
