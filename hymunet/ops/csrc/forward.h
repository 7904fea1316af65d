// Forward: y = sum over the directions of the scan, plus the skip term.
#pragma once
#include "tokens.h"

namespace {

// Runs kStatePad states of one channel block over one block of tokens, the states in registers; adds to y.
INLINE void scan_states(const Block &k, const float *decay, int64_t n, float *state, float *y) {
    vec h[kStatePad][kVectors];
    for (int i = 0; i < kStatePad; i++)
        for (int v = 0; v < kVectors; v++) h[i][v] = load(state + (n + i) * kChannels + v * kLanes);
    for (int64_t t = 0; t < k.count; t++) {
        vec sum[kVectors], du[kVectors];
        for (int v = 0; v < kVectors; v++) {
            sum[v] = load(y + t * kChannels + v * kLanes);
            du[v] = load(k.du + t * kChannels + v * kLanes);
        }
#pragma GCC unroll 4
        for (int i = 0; i < kStatePad; i++)
#pragma GCC unroll 4
            for (int v = 0; v < kVectors; v++) {
                vec in = opaque(du[v] * k.rows[t * k.row + k.b + n + i]);
                h[i][v] = load(decay + (i * kBlock + t) * kChannels + v * kLanes) * h[i][v] + in;
                sum[v] += h[i][v] * k.rows[t * k.row + k.c + n + i];
            }
        for (int v = 0; v < kVectors; v++) store(y + t * kChannels + v * kLanes, sum[v]);
    }
    for (int i = 0; i < kStatePad; i++)
        for (int v = 0; v < kVectors; v++) store(state + (n + i) * kChannels + v * kLanes, h[i][v]);
}

// Task: (image, channel block).
int forward(const Scan &s, int64_t task) {
    const int64_t image = task / channel_blocks(s), block = task % channel_blocks(s), L = s.height * s.width;
    const int64_t P = padded_states(s);
    Arena arena(2 * L * kChannels + (2 * P + s.rank) * (kChannels + kBlock) + (1 + kStatePad) * kBlock * kChannels, 9);
    if (!arena.base) return 1;
    FlushDenormals flush;
    float *x = arena.take(L * kChannels), *y = arena.take(L * kChannels), *state = arena.take(P * kChannels);
    float *sums = arena.take(kBlock * kChannels), *decay = arena.take(kStatePad * kBlock * kChannels);
    Parameters parameters;
    parameters.a = arena.take(P * kChannels);
    parameters.weight = arena.take(s.rank * kChannels);
    Block k;
    k.lay_out(s, arena);

    float skip[kChannels] = {};
    for (int64_t c = 0; c < block_channels(s, block); c++)
        for (int d = 0; d < kDirections; d++) skip[c] += s.skip[d * s.channels + block * kChannels + c];
    read_tile(x, s.x, s, image, block);
    for (int64_t i = 0; i < L * kChannels; i += kLanes) store(y + i, load(x + i) * load(skip + i % kChannels));

    for (int d = 0; d < kDirections; d++) {
        const Walk walk{s.height, s.width, d};
        parameters.read(s, d, block * kChannels, block_channels(s, block));
        memset(state, 0, P * kChannels * 4);
        for (int64_t first = 0; first < L; first += kBlock) {
            if (first) memcpy(saved_state(s, image, d, first / kBlock, block), state, P * kChannels * 4);
            k.read(s, walk, image, first);
            k.expand(s, parameters, x, nullptr);
            memset(sums, 0, kBlock * kChannels * 4);
            for (int64_t n = 0; n < P; n += kStatePad) {
                decays(k, parameters.a, n, decay);
                scan_states(k, decay, n, state, sums);
            }
            for (int64_t t = 0; t < k.count; t++)
                for (int v = 0; v < kVectors; v++) {
                    float *to = y + k.position[t] * kChannels + v * kLanes;
                    store(to, load(to) + load(sums + t * kChannels + v * kLanes));
                }
        }
    }
    write_tile(s.y, y, s, image, block);
    return 0;
}

// The inner loop alone, on data in the first cache: the speed no scan of this form can exceed on this machine.
double peak(int64_t rounds) {
    alignas(64) static thread_local float a[16 * kChannels], state[16 * kChannels], y[kBlock * kChannels];
    alignas(64) static thread_local float rows[kBlock * 32];
    alignas(64) static thread_local float decay[kStatePad * kBlock * kChannels];
    static thread_local Block k;
    k.count = kBlock;
    k.bounded = true;
    k.rows = rows;
    k.row = 32, k.b = 0, k.c = 16;
    for (int64_t i = 0; i < kBlock * kChannels; i++) k.delta[i] = 0.01f + 0.001f * (i % 7), k.du[i] = 0.1f, y[i] = 0.0f;
    for (int64_t i = 0; i < 16 * kChannels; i++) a[i] = -1.0f - i / kChannels, state[i] = 0.0f;
    for (int64_t i = 0; i < kBlock * 32; i++) rows[i] = 0.5f;
    for (int64_t r = 0; r < rounds; r++)
        for (int64_t n = 0; n < 16; n += kStatePad) {
            decays(k, a, n, decay);
            scan_states(k, decay, n, state, y);
        }
    volatile float keep = y[0] + state[0];
    (void)keep;
    return static_cast<double>(rounds) * kBlock * 16 * kChannels;
}

}  // namespace
