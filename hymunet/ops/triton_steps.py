"""The steps of a chunk: expanded from few ranks by dt_weight, then softplus.

By multiply-adds, a channel's thread reads each token's dt. With many ranks the matrix units do it, and dt_weight's
gradient, from bfloat16 terms: a weight is two of them, which leaves 2^-17 of it out, dt is one already."""

# ruff: noqa: RUF005  (Triton has no starred tuples)
# mypy: disable-error-code="assignment"
from __future__ import annotations

import triton
import triton.language as tl

from hymunet.ops.triton_walk import LOG2E, load_row, row_of, sum_states

MANY_RANKS = tl.constexpr(17)
"""From here on: their way through shared memory costs a chunk as much as 16 ranks cost by multiply-adds."""
RANK_TILE = tl.constexpr(8)


@triton.jit
def softplus(z):
    """log(1 + exp(z)) = max(z, 0) + log(1 + e) with e = exp(-|z|) in (0, 1]. log(1 + e) / e as a minimax polynomial of
    degree 8 (relative error 2e-7 in float32) keeps the digits of a small e, which log2(1 + e) loses."""
    e = tl.exp2(-tl.abs(z) * LOG2E)
    e2 = e * e
    e4 = e2 * e2
    low = (0.9999999403953552 - 0.4999949336051940918 * e) + (0.3331909775733948 - 0.2484298050403595 * e) * e2
    high = (0.19106000661849976 - 0.13663232326507568 * e) + (0.07822578400373459 - 0.029505137354135513 * e) * e2
    p = low + (high + 0.005232668947428465 * e4) * e4
    return tl.maximum(z, 0.0) + e * p


@triton.jit
def load_ranks(base, R: tl.constexpr, RT: tl.constexpr):
    """dt of one token as (RT, 1) columns."""
    tiles = ()
    for i in tl.static_range((R + RT - 1) // RT):
        tiles = tiles + (load_row(base + i * RT, RT if (i + 1) * RT <= R else R - i * RT, RT),)
    return tiles


@triton.jit
def load_deltas(
    rows, w, bias, first, L, R: tl.constexpr, ROW: tl.constexpr, RT: tl.constexpr, CH: tl.constexpr,
    ALIGNED: tl.constexpr,
):  # fmt: skip
    """The steps of a chunk, (BC,) each: all loads are on their way before the first is waited for, and the chains of
    operations that make a step run side by side."""
    raw = ()
    for t in tl.static_range(CH):
        raw = raw + (load_ranks(row_of(rows, first, t, L - 1, ROW, ALIGNED), R, RT),)
    deltas = ()
    for t in tl.static_range(CH):
        logit = bias
        for i in tl.static_range((R + RT - 1) // RT):
            logit += sum_states(raw[t][i] * w[i])
        deltas = deltas + (softplus(logit),)
    return deltas


@triton.jit
def stack(a, b):
    """Two (rows, BC) tiles one above the other, without leaving the registers."""
    rows: tl.constexpr = a.shape[0]
    columns: tl.constexpr = a.shape[1]
    return tl.reshape(tl.permute(tl.join(a, b), (2, 0, 1)), (2 * rows, columns))


@triton.jit
def unstack_eight(tile):
    """The rows of an (8, BC) tile."""
    BC: tl.constexpr = tile.shape[1]
    even, odd = tl.split(tl.permute(tl.reshape(tile, (4, 2, BC)), (0, 2, 1)))
    a, c = tl.split(tl.permute(tl.reshape(even, (2, 2, BC)), (0, 2, 1)))
    b, d = tl.split(tl.permute(tl.reshape(odd, (2, 2, BC)), (0, 2, 1)))
    a, e = tl.split(tl.permute(a, (1, 0)))
    b, f = tl.split(tl.permute(b, (1, 0)))
    c, g = tl.split(tl.permute(c, (1, 0)))
    d, h = tl.split(tl.permute(d, (1, 0)))
    return a, b, c, d, e, f, g, h


@triton.jit
def load_weight_terms(
    parameters, direction, block, C, R: tl.constexpr, N: tl.constexpr, BC: tl.constexpr, TERM: tl.constexpr
):
    """dt_weight in tiles of (BC, 2 * RANK_TILE): what TERM holds of each weight, beside it what that leaves over."""
    k = tl.arange(0, 2 * RANK_TILE)[None, :]
    c = block * BC + tl.arange(0, BC)[:, None]
    tiles = ()
    for i in tl.static_range((R + RANK_TILE - 1) // RANK_TILE):
        r = i * RANK_TILE + k % RANK_TILE
        w = tl.load(parameters + (direction * (N + R) + N + r) * C + c, mask=(r < R) & (c < C), other=0.0)
        held = w.to(TERM)
        tiles = tiles + (tl.where(k < RANK_TILE, held, (w - held.to(tl.float32)).to(TERM)),)
    return tiles


@triton.jit
def load_dt(rows, first, L, R: tl.constexpr, ROW: tl.constexpr):
    """dt of eight tokens, in tiles of (RANK_TILE, 8)."""
    row = tl.minimum(first + tl.arange(0, 8)[None, :], L - 1) * ROW
    tiles = ()
    for i in tl.static_range((R + RANK_TILE - 1) // RANK_TILE):
        r = i * RANK_TILE + tl.arange(0, RANK_TILE)[:, None]
        tiles = tiles + (tl.load(rows + row + r, mask=r < R, other=0.0),)
    return tiles


@triton.jit
def expand(w, dt, bias, TERM: tl.constexpr):
    """The steps of eight tokens, (BC,) each, from the tiles of `load_weight_terms` and `load_dt`."""
    logits = tl.zeros((w[0].shape[0], 8), tl.float32)
    for i in tl.static_range(len(w)):
        raw = dt[i].to(TERM)
        logits = tl.dot(w[i], stack(raw, raw), logits, input_precision="ieee")
    return unstack_eight(softplus(tl.trans(logits) + bias[None, :]))


@triton.jit
def weight_gradients(sums, logits, dt, TERM: tl.constexpr):
    """Adds to `sums`, tiles of (BC, RANK_TILE), what eight tokens' (8, BC) `logits` and dt add to dt_weight's
    gradient."""
    held = logits.to(TERM)
    terms = tl.trans(stack(held, (logits - held.to(tl.float32)).to(TERM)))
    tiles = ()
    for i in tl.static_range(len(dt)):
        raw = tl.trans(dt[i].to(TERM))
        tiles = tiles + (tl.dot(terms, stack(raw, raw), sums[i], input_precision="ieee"),)
    return tiles
