// Forward: y = skip term plus the sum over the directions of the scan.
#pragma once
#include "tokens.h"

namespace {

// Runs kStatePad states of one channel block over one block of tokens, the states in registers; adds to y.
INLINE void scan_states(const Block &k, const float *decay, int64_t n, float *state, float *y) {
    const int64_t count = k.count, row = k.row;
    const float *b = k.rows + k.b + n, *c = k.rows + k.c + n, *du = k.du;
    vec h[kStatePad][kVectors];
    for (int i = 0; i < kStatePad; i++)
        for (int v = 0; v < kVectors; v++) h[i][v] = load(state + (n + i) * kChannels + v * kLanes);
    for (int64_t t = 0; t < count; t++, b += row, c += row, du += kChannels, decay += kChannels, y += kChannels) {
        vec sum[kVectors], in[kVectors];
        for (int v = 0; v < kVectors; v++) {
            sum[v] = load(y + v * kLanes);
            in[v] = load(du + v * kLanes);
        }
#pragma GCC unroll 4
        for (int i = 0; i < kStatePad; i++)
#pragma GCC unroll 4
            for (int v = 0; v < kVectors; v++) {
                h[i][v] = load(decay + i * kTile + v * kLanes) * h[i][v] + opaque(in[v] * b[i]);
                sum[v] += h[i][v] * c[i];
            }
        for (int v = 0; v < kVectors; v++) store(y + v * kLanes, sum[v]);
    }
    for (int i = 0; i < kStatePad; i++)
        for (int v = 0; v < kVectors; v++) store(state + (n + i) * kChannels + v * kLanes, h[i][v]);
}

// The same with the decays computed on the way, where |delta * a| is in exp2_bounded's range: for 32 registers, which
// hold the constants, the rates and the states.
INLINE void scan_at_once(const Block &k, const float *a, int64_t n, float *state, float *y) {
    const int64_t count = k.count, row = k.row;
    const float *b = k.rows + k.b + n, *c = k.rows + k.c + n, *du = k.du, *delta = k.delta;
    const Exp2 exp2;
    vec h[kStatePad], rate[kStatePad];
    for (int i = 0; i < kStatePad; i++) h[i] = load(state + (n + i) * kChannels), rate[i] = load(a + (n + i) * kChannels);
    for (int64_t t = 0; t < count; t++, b += row, c += row, du += kChannels, delta += kChannels, y += kChannels) {
        vec sum = load(y), in = load(du), step[kStatePad], decay[kStatePad];
        for (int i = 0; i < kStatePad; i++) step[i] = load(delta);
        exp2.bounded<kStatePad>(step, rate, decay);
#pragma GCC unroll 4
        for (int i = 0; i < kStatePad; i++) {
            h[i] = decay[i] * h[i] + opaque(in * b[i]);
            sum += h[i] * c[i];
        }
        store(y, sum);
    }
    for (int i = 0; i < kStatePad; i++) store(state + (n + i) * kChannels, h[i]);
}

// Every state of a block of tokens; adds to y. decay: room for kStatePad tiles.
INLINE void scan(const Block &k, const float *a, int64_t states, float *decay, float *state, float *y) {
    for (int64_t n = 0; n < states; n += kStatePad) {
        if constexpr (LANES == kChannels) {
            if (k.bounded) {
                scan_at_once(k, a, n, state, y);
                continue;
            }
        }
        decays(k, a, n, decay);
        scan_states(k, decay, n, state, y);
    }
}

constexpr int64_t kShare = 4;  // at most this many channel blocks share one reading of proj

// As many as leave each thread two tasks; a function of the threads, as each channel's result is its own, whoever
// computes it.
int64_t forward_share(const Scan &s) {
    int64_t share = kShare;
    while (share > 1 && s.batch * channel_blocks(s) < share * 2 * s.threads) share /= 2;
    return share;
}
int64_t forward_tasks(const Scan &s) { return s.batch * ceil_div(channel_blocks(s), forward_share(s)); }

// Task: (image, forward_share() channel blocks).
int forward(const Scan &s, int64_t task) {
    const int64_t share = forward_share(s), parts = ceil_div(channel_blocks(s), share);
    const int64_t image = task / parts, block = task % parts * share, L = s.height * s.width, P = padded_states(s);
    const int64_t count = channel_blocks(s) - block < share ? channel_blocks(s) - block : share;
    Arena arena(share * (2 * L + 2 * P + s.rank) * kChannels + kBlock * (s.rank + 2 * P) + (1 + kStatePad) * kTile, 3 + 5 * share);
    if (!arena.base) return 1;
    FlushDenormals flush;
    float *x[kShare], *y[kShare], *state[kShare], *sums = arena.take(kTile), *decay = arena.take(kStatePad * kTile);
    float skip[kShare][kChannels];
    Parameters parameters[kShare];
    Block k;
    k.lay_out(s, arena);
    for (int64_t i = 0; i < count; i++) {
        x[i] = arena.take(L * kChannels);
        y[i] = arena.take(L * kChannels);
        state[i] = arena.take(P * kChannels);
        parameters[i].a = arena.take(P * kChannels);
        parameters[i].weight = arena.take(s.rank * kChannels);
        for (int64_t c = 0; c < kChannels; c++) skip[i][c] = 0.0f;
        for (int64_t c = 0; c < block_channels(s, block + i); c++)
            for (int d = 0; d < kDirections; d++) skip[i][c] += s.skip[d * s.channels + (block + i) * kChannels + c];
        read_tile(x[i], s.x, s, image, block + i);
    }
    for (int turn = 0; turn < kDirections; turn++) {
        const int d = turn ^ 2;  // the walks along rows last: the final one writes the map in the order of memory
        const Walk walk{s.height, s.width, d};
        for (int64_t i = 0; i < count; i++) {
            parameters[i].read(s, d, (block + i) * kChannels, block_channels(s, block + i));
            memset(state[i], 0, P * kChannels * 4);
        }
        for (int64_t first = 0; first < L; first += kBlock) {
            k.read(s, walk, image, first);
            for (int64_t i = 0; i < count; i++) {
                if (first && s.saved)
                    memcpy(saved_state(s, image, d, first / kBlock, block + i), state[i], P * kChannels * 4);
                k.expand(s, parameters[i], x[i], nullptr);
                for (int64_t t = 0; t < k.count; t++)
                    for (int64_t c = 0; c < kChannels; c += kLanes) {
                        const int64_t pixel = k.position[t] * kChannels + c;
                        store(sums + t * kChannels + c, turn ? load(y[i] + pixel) : load(x[i] + pixel) * load(skip[i] + c));
                    }
                scan(k, parameters[i].a, P, decay, state[i], sums);
                for (int64_t t = 0; t < k.count; t++) {
                    const float *from = sums + t * kChannels;
                    if (turn == kDirections - 1)
                        write(s.y, (image * L + k.position[t]) * s.channels + (block + i) * kChannels, from,
                              block_channels(s, block + i), s.dtype);
                    else
                        memcpy(y[i] + k.position[t] * kChannels, from, kChannels * 4);
                }
            }
        }
    }
    return 0;
}

// The inner loop alone, on data in the first cache: the speed no scan of this form can exceed on this machine.
double peak(int64_t rounds) {
    alignas(64) float a[16 * kChannels], state[16 * kChannels], y[kBlock * kChannels];
    alignas(64) float rows[kBlock * 32];
    alignas(64) float decay[kStatePad * kBlock * kChannels];
    alignas(64) Block k;
    k.count = kBlock;
    k.bounded = true;
    k.rows = rows;
    k.row = 32, k.b = 0, k.c = 16;
    for (int64_t i = 0; i < kBlock * kChannels; i++) k.delta[i] = 0.01f + 0.001f * (i % 7), k.du[i] = 0.1f, y[i] = 0.0f;
    for (int64_t i = 0; i < 16 * kChannels; i++) a[i] = -1.0f - i / kChannels, state[i] = 0.0f;
    for (int64_t i = 0; i < kBlock * 32; i++) rows[i] = 0.5f;
    for (int64_t r = 0; r < rounds; r++) scan(k, a, 16, decay, state, y);
    volatile float keep = y[0] + state[0];
    (void)keep;
    return static_cast<double>(rounds) * kBlock * 16 * kChannels;
}

}  // namespace
