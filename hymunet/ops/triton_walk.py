"""What the Triton kernels share: the order of the walks, and loads that nobody waits for.

One thread owns one channel and keeps its states in registers; a program walks its tokens one after another. Tiles put
the states first and the channels last, and pointers carry no alignment promise (`UNALIGNED`): so Triton spreads the
lanes over channels and a sum over states needs no shuffle. Only `rows`, which every lane reads, is read in wide words.
ALIGNED means that chunks fit the columns and blocks the channels, so that nothing needs a mask.

The compiler keeps loads and stores in the order written, and a program has few warps to hide a wait behind. So what a
token needs is loaded while the token before it is computed, and a chunk is brought near while another is walked.
"""

# ruff: noqa: RUF005  (Triton has no starred tuples)
# mypy: disable-error-code="assignment"
from __future__ import annotations

import triton
import triton.language as tl

STATE_BLOCK = tl.constexpr(32)
"""Channels that lie side by side in the saved states, so that a state's address is a constant away from the next."""

UNALIGNED = ["x", "parameters", "dt_bias", "D", "grad_y", "carry", "total_delta", "part", "states", "unread"]

LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
def locate(pid, C, segments, BC: tl.constexpr, SHARES: tl.constexpr):
    """This program's block of channels, share of the states, direction, segment and image, and the images there are."""
    blocks = tl.cdiv(C, BC)
    images = tl.num_programs(0) // (blocks * SHARES * 4 * segments)
    direction = pid // (blocks * SHARES) % 4
    image = pid // (blocks * SHARES * 4) % images
    segment = pid // (blocks * SHARES * 4 * images)
    return pid % blocks, pid // blocks % SHARES, direction, segment, image.to(tl.int64), images


@triton.jit
def state_offset(block, share, n, N: tl.constexpr, OWN: tl.constexpr, BC: tl.constexpr):
    """Where (NP, BC) saved states lie in those of one chunk, (blocks of 32 channels, N, 32)."""
    c = block * BC + tl.arange(0, BC)[None, :]
    first = c // STATE_BLOCK * (N * STATE_BLOCK) + c % STATE_BLOCK + share * OWN * STATE_BLOCK
    return first.to(tl.int64) + n * STATE_BLOCK


@triton.jit
def pixel_of(step, direction, H, W):
    """Row-major pixel that `direction` visits at `step`."""
    walked = tl.where(direction % 2 == 1, H * W - 1 - step, step)
    column = walked // H
    return tl.where(direction < 2, walked, (walked - column * H) * W + W - 1 - column)


@triton.jit
def stride_of(direction, W):
    """Pixels from one step to the next within a column or a row."""
    return tl.where(direction < 2, 1, W) * tl.where(direction % 2 == 1, -1, 1)


@triton.jit
def load_parameters(
    parameters, dt_bias, direction, share, c, C,
    R: tl.constexpr, N: tl.constexpr, OWN: tl.constexpr, RT: tl.constexpr, NP: tl.constexpr,
):  # fmt: skip
    """A of this share's states as (NP, BC), dt_weight as tiles of (RT, BC), dt_bias as (BC,); zero beyond C, R and OWN.

    `parameters` is (4, N + R, C), both matrices transposed: the layout of this load becomes the layout of the state."""
    n = tl.arange(0, NP)[:, None]
    live = c[None, :] < C
    first = direction * (N + R)
    a = tl.load(parameters + (first + share * OWN + n) * C + c[None, :], mask=live & (n < OWN), other=0.0)
    w = ()
    for i in tl.static_range((R + RT - 1) // RT):
        r = i * RT + tl.arange(0, RT)[:, None]
        w = w + (tl.load(parameters + (first + N + r) * C + c[None, :], mask=live & (r < R), other=0.0),)
    return a, w, tl.load(dt_bias + direction * C + c, mask=c < C, other=0.0)


@triton.jit
def load_row(base, size: tl.constexpr, padded: tl.constexpr):
    """B or C of one token as a (padded, 1) column."""
    index = tl.arange(0, padded)
    if size == padded:
        return tl.load(base + index)[:, None]
    return tl.load(base + index, mask=index < size, other=0.0)[:, None]


@triton.jit
def row_of(rows, first, t: tl.constexpr, last, ROW: tl.constexpr, ALIGNED: tl.constexpr):
    """Where the row of step `first + t` begins; of the last step past the end."""
    if ALIGNED:
        return rows + first * ROW + t * ROW
    return rows + tl.minimum(first + t, last) * ROW


@triton.jit
def touch_rows(rows, first, L, ROW: tl.constexpr, CH: tl.constexpr, SECTORS: tl.constexpr):
    """One value from each 32 bytes of a chunk's rows. To load it brings them into the first-level cache, as no prefetch
    instruction does; a chunk later, when it is added to something, nobody waits for it."""
    at = tl.arange(0, SECTORS) * 8
    return tl.load(rows + tl.minimum(first * ROW + at, L * ROW - 1), mask=at < CH * ROW, other=0.0)


@triton.jit
def prefetch(pointer):
    """Asks for the 32 bytes at each pointer to be brought into the second-level cache."""
    tl.inline_asm_elementwise(
        "prefetch.global.L2 [$1]; mov.b32 $0, 0;", "=r,l", [pointer], dtype=tl.int32, is_pure=False, pack=1
    )


@triton.jit
def sectors_of_map(source, start, direction, H, W, C, block, BC: tl.constexpr, CH: tl.constexpr):
    """Pointers to each 32 bytes of the (BC,) values of one image's map in the chunk that begins at pixel `start`."""
    SECTOR: tl.constexpr = 256 // source.dtype.element_ty.primitive_bitwidth
    WIDE: tl.constexpr = BC // SECTOR if BC > SECTOR else 1
    pixel = start + tl.arange(0, CH)[:, None] * stride_of(direction, W)
    channel = tl.minimum(block * BC + tl.arange(0, WIDE)[None, :] * SECTOR, C - 1)
    return source + tl.minimum(tl.maximum(pixel, 0), H * W - 1) * C + channel


@triton.jit
def sum_states(tile):
    """Sum over the states, (BC,): two chains of additions, because one would wait for itself."""
    half: tl.constexpr = tile.shape[0] // 2
    return tl.sum(tl.sum(tl.reshape(tile, (2, half, tile.shape[1])), axis=1), axis=0)


@triton.jit
def keep_touches(unread, touched):
    """Without a store the compiler would drop the loads. Nobody reads it."""
    tl.store(unread + tl.arange(0, touched.numel), tl.reshape(touched, (touched.numel,)))


@triton.jit
def pixels_of(start, first, direction, H, W, CH: tl.constexpr, ALIGNED: tl.constexpr):
    """The pixels of a chunk, which begins at pixel `start`; past the end the last one."""
    pixels = ()
    for t in tl.static_range(CH):
        if ALIGNED:
            pixels = pixels + (start + t * stride_of(direction, W),)
        else:
            pixels = pixels + (pixel_of(tl.minimum(first + t, H * W - 1), direction, H, W),)
    return pixels


@triton.jit
def load_values(source, pixels, C, c, first, L, CH: tl.constexpr, ALIGNED: tl.constexpr):
    """(BC,) values of a map at each pixel, zero beyond the channels and past the last step."""
    values = ()
    for t in tl.static_range(CH):
        if ALIGNED:
            value = tl.load(source + pixels[t] * C)
        else:
            value = tl.load(source + pixels[t] * C, mask=c < tl.where(first + t < L, C, 0), other=0.0)
        values = values + (value.to(tl.float32),)
    return values


@triton.jit
def store_value(target, value, pixel, C, c, step, L, ALIGNED: tl.constexpr):
    if ALIGNED:
        tl.store(target + pixel * C, value)
    else:
        tl.store(target + pixel * C, value, mask=c < tl.where(step < L, C, 0))
