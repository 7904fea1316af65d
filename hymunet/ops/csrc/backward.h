// Backward: the states of a block are recomputed from the one saved before it, then the adjoint runs through the block
// in reverse. With g = dL/dh[t], from the last step to the first:
//     g += C * dy,   dC = sum_c dy * h[t],   dB = sum_c g * delta * x,   dx = delta * sum_n g * B,
//     ddelta = sum_n g * (A * decay * h[t-1] + B * x),   dA = sum_t g * delta * decay * h[t-1],   g *= decay.
#pragma once
#include "tokens.h"

namespace {

// h[i][t + 1] = state n + i after step t; h[i][0] = the state that enters the block. (kStatePad, kBlock + 1, kChannels)
INLINE void recompute(const Block &k, const float *decay, int64_t n, const float *state, float *h) {
    for (int i = 0; i < kStatePad; i++) {
        vec now[kVectors];
        float *to = h + i * (kTile + kChannels);
        for (int v = 0; v < kVectors; v++) {
            now[v] = state ? load(state + (n + i) * kChannels + v * kLanes) : vec{};
            store(to + v * kLanes, now[v]);
        }
        for (int64_t t = 0; t < k.count; t++)
            for (int v = 0; v < kVectors; v++) {
                const int64_t at = t * kChannels + v * kLanes;
                vec in = opaque(load(k.du + at) * k.rows[t * k.row + k.b + n + i]);
                now[v] = load(decay + i * kTile + at) * now[v] + in;
                store(to + kChannels + at, now[v]);
            }
    }
}

struct Adjoint {
    float *carry, *grad_a;  // (padded states, kChannels): decay * g of the step after; dA so far
    float *rows;            // (kBlock, row): gradients of dt, B, C of this channel block, laid out as Block.rows
    float *grad_y;          // (kBlock, kChannels)
    float *into_x, *into_delta;  // (kBlock, kChannels): sum_n g * B; sum_n g * a * decay * h[t-1]
};

INLINE void adjoint(const Block &k, const float *a, const float *decay, const float *h, int64_t n, const Adjoint &out) {
    vec carry[kStatePad][kVectors], grad_a[kStatePad][kVectors];
    for (int i = 0; i < kStatePad; i++)
        for (int v = 0; v < kVectors; v++) {
            carry[i][v] = load(out.carry + (n + i) * kChannels + v * kLanes);
            grad_a[i][v] = load(out.grad_a + (n + i) * kChannels + v * kLanes);
        }
    for (int64_t t = k.count - 1; t >= 0; t--) {
        vec grad_b[kStatePad], grad_c[kStatePad];
        const float *row = k.rows + t * k.row + n;
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; v++) {
            const int64_t at = t * kChannels + v * kLanes;
            vec into_x = load(out.into_x + at), into_delta = load(out.into_delta + at);
            const vec grad_y = load(out.grad_y + at), du = load(k.du + at), delta = load(k.delta + at);
#pragma GCC unroll 4
            for (int i = 0; i < kStatePad; i++) {
                const float *state = h + i * (kTile + kChannels) + at;
                vec g = grad_y * row[k.c + i] + carry[i][v];
                grad_c[i] = v ? grad_y * load(state + kChannels) + grad_c[i] : grad_y * load(state + kChannels);
                grad_b[i] = v ? g * du + grad_b[i] : g * du;
                into_x += g * row[k.b + i];
                carry[i][v] = g * load(decay + i * kTile + at);
                g = carry[i][v] * load(state);
                grad_a[i][v] += g * delta;
                into_delta += g * load(a + (n + i) * kChannels + v * kLanes);
            }
            store(out.into_x + at, into_x);
            store(out.into_delta + at, into_delta);
        }
        float *to = out.rows + t * k.row + n;
        store4(to + k.b, sum4(grad_b[0], grad_b[1], grad_b[2], grad_b[3]));
        store4(to + k.c, sum4(grad_c[0], grad_c[1], grad_c[2], grad_c[3]));
    }
    for (int i = 0; i < kStatePad; i++)
        for (int v = 0; v < kVectors; v++) {
            store(out.carry + (n + i) * kChannels + v * kLanes, carry[i][v]);
            store(out.grad_a + (n + i) * kChannels + v * kLanes, grad_a[i][v]);
        }
}

// From the gradient of delta to those of dt, its weight and its bias; adds the scan's part to grad_x.
INLINE void contract(const Block &k, const Parameters &p, const Adjoint &out, int64_t rank, const float *slope,
                     const float *x, float *grad_x, float *grad_weight, float *grad_bias) {
    for (int64_t t = 0; t < k.count; t++) {
        vec dz[kVectors];
        for (int v = 0; v < kVectors; v++) {
            const int64_t at = t * kChannels + v * kLanes, pixel = k.position[t] * kChannels + v * kLanes;
            const vec into_x = load(out.into_x + at);
            store(grad_x + pixel, load(grad_x + pixel) + load(k.delta + at) * into_x);
            dz[v] = (load(out.into_delta + at) * 0.693147181f + load(x + pixel) * into_x) * load(slope + at);
            store(grad_bias + v * kLanes, load(grad_bias + v * kLanes) + dz[v]);
        }
        float *to = out.rows + t * k.row;
        for (int64_t r = 0; r < rank; r += 4) {
            vec sum[4] = {};
            for (int64_t i = 0; i < 4 && r + i < rank; i++)
                for (int v = 0; v < kVectors; v++) {
                    const int64_t at = (r + i) * kChannels + v * kLanes;
                    sum[i] += dz[v] * load(p.weight + at);
                    store(grad_weight + at, load(grad_weight + at) + dz[v] * k.rows[t * k.row + r + i]);
                }
            const quad s = sum4(sum[0], sum[1], sum[2], sum[3]);
            memcpy(to + r, &s, (rank - r < 4 ? rank - r : 4) * 4);
        }
    }
}

// Task: (image, group of channel blocks).
int backward(const Scan &s, int64_t task) {
    const int64_t image = task / groups(s), group = task % groups(s), L = s.height * s.width, C = s.channels;
    const int64_t P = padded_states(s), N = s.states, R = s.rank, row = R + 2 * N;
    Arena arena(3 * L * kChannels + (3 * P + 2 * R + 2) * kChannels + 2 * kBlock * (R + 2 * P) +
                    (kStatePad * 2 + 4) * kTile + kStatePad * kChannels, 20);
    if (!arena.base) return 1;
    FlushDenormals flush;
    float *x = arena.take(L * kChannels), *grad_y = arena.take(L * kChannels), *grad_x = arena.take(L * kChannels);
    Parameters parameters;
    parameters.a = arena.take(P * kChannels);
    parameters.weight = arena.take(R * kChannels);
    Block k;
    k.lay_out(s, arena);
    Adjoint out;
    out.carry = arena.take(P * kChannels);
    out.grad_a = arena.take(P * kChannels);
    out.rows = arena.take(kBlock * k.row);
    out.grad_y = arena.take(kTile);
    out.into_x = arena.take(kTile);
    out.into_delta = arena.take(kTile);
    float *slope = arena.take(kTile), *decay = arena.take(kStatePad * kTile);
    float *h = arena.take(kStatePad * (kTile + kChannels));
    float *grad_weight = arena.take(R * kChannels), *grad_bias = arena.take(kChannels), *grad_skip = arena.take(kChannels);

    const int64_t first_block = group * group_size(s);
    for (int64_t block = first_block; block < first_block + group_size(s) && block < channel_blocks(s); block++) {
        const int64_t count = block_channels(s, block);
        float skip[kChannels] = {};
        for (int64_t c = 0; c < count; c++)
            for (int d = 0; d < kDirections; d++) skip[c] += s.skip[d * C + block * kChannels + c];
        read_tile(x, s.x, s, image, block);
        read_tile(grad_y, s.grad_y, s, image, block);
        memset(grad_skip, 0, kChannels * 4);
        for (int64_t i = 0; i < L * kChannels; i += kLanes) {
            const vec dy = load(grad_y + i);
            float *sum = grad_skip + i % kChannels;
            store(grad_x + i, dy * load(skip + i % kChannels));
            store(sum, load(sum) + dy * load(x + i));
        }
        for (int d = 0; d < kDirections; d++) {
            const Walk walk{s.height, s.width, d};
            parameters.read(s, d, block * kChannels, count);
            memset(out.carry, 0, P * kChannels * 4);
            memset(out.grad_a, 0, P * kChannels * 4);
            memset(grad_weight, 0, R * kChannels * 4);
            memset(grad_bias, 0, kChannels * 4);
            for (int64_t first = (L - 1) / kBlock * kBlock; first >= 0; first -= kBlock) {
                const float *state = first ? saved_state(s, image, d, first / kBlock, block) : nullptr;
                k.read(s, walk, image, first);
                k.expand(s, parameters, x, slope);
                memset(out.into_x, 0, kTile * 4);
                memset(out.into_delta, 0, kTile * 4);
                for (int64_t t = 0; t < k.count; t++)
                    memcpy(out.grad_y + t * kChannels, grad_y + k.position[t] * kChannels, kChannels * 4);
                for (int64_t n = 0; n < P; n += kStatePad) {
                    decays(k, parameters.a, n, decay);
                    recompute(k, decay, n, state, h);
                    adjoint(k, parameters.a, decay, h, n, out);
                }
                contract(k, parameters, out, R, slope, x, grad_x, grad_weight, grad_bias);
                for (int64_t t = 0; t < k.count; t++) {
                    const float *from = out.rows + t * k.row;
                    float *to = s.partial_proj + (((group * s.batch + image) * L + k.position[t]) * kDirections + d) * row;
                    const bool add = block > first_block;
                    for (int64_t r = 0; r < R; r++) to[r] = add ? to[r] + from[r] : from[r];
                    for (int64_t n = 0; n < N; n++) to[R + n] = add ? to[R + n] + from[k.b + n] : from[k.b + n];
                    for (int64_t n = 0; n < N; n++) to[R + N + n] = add ? to[R + N + n] + from[k.c + n] : from[k.c + n];
                }
            }
            for (int64_t c = 0; c < count; c++) {
                float *to = s.partial_params + ((image * kDirections + d) * C + block * kChannels + c) * (N + R + 2);
                for (int64_t n = 0; n < N; n++) to[n] = out.grad_a[n * kChannels + c];
                for (int64_t r = 0; r < R; r++) to[N + r] = grad_weight[r * kChannels + c];
                to[N + R] = grad_bias[c];
                to[N + R + 1] = grad_skip[c];
            }
        }
        write_tile(s.grad_x, grad_x, s, image, block);
    }
    return 0;
}

// Sums the groups' partial gradients of kReduceRows rows of proj, in order.
INLINE void reduce_proj(const Scan &s, int64_t task) {
    const int64_t row = s.rank + 2 * s.states, total = s.batch * s.height * s.width * kDirections * row;
    const int64_t first = task * kReduceRows * row, last = first + kReduceRows * row < total ? first + kReduceRows * row : total;
    float sum[256];
    for (int64_t at = first; at < last; at += 256) {
        const int64_t count = last - at < 256 ? last - at : 256;
        for (int64_t i = 0; i < count; i++) sum[i] = s.partial_proj[at + i];
        for (int64_t g = 1; g < groups(s); g++)
            for (int64_t i = 0; i < count; i++) sum[i] += s.partial_proj[g * total + at + i];
        write(s.grad_proj, at, sum, count, s.dtype);
    }
}

// Sums the images' partial gradients of one channel's parameters in one direction, in order.
INLINE void reduce_params(const Scan &s, int64_t direction, int64_t channel) {
    const int64_t N = s.states, R = s.rank, row = N + R + 2, at = direction * s.channels + channel;
    for (int64_t i = 0; i < row; i++) {
        float sum = 0.0f;
        for (int64_t image = 0; image < s.batch; image++)
            sum += s.partial_params[(image * kDirections * s.channels + at) * row + i];
        if (i < N) s.grad_a[at * N + i] = sum;
        else if (i < N + R) s.grad_dt_weight[at * R + i - N] = sum;
        else (i == N + R ? s.grad_dt_bias : s.grad_skip)[at] = sum;
    }
}

// Task: rows of proj, or after those a channel block's parameters in one direction.
int reduce(const Scan &s, int64_t task) {
    if (task < reduce_proj_tasks(s)) {
        reduce_proj(s, task);
        return 0;
    }
    task -= reduce_proj_tasks(s);
    const int64_t direction = task / channel_blocks(s), block = task % channel_blocks(s);
    for (int64_t c = 0; c < block_channels(s, block); c++) reduce_params(s, direction, block * kChannels + c);
    return 0;
}

}  // namespace
