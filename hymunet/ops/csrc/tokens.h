// What forward and backward share: the walk of a direction, and a block of tokens made ready for the scan.
#pragma once
#include <cstdlib>

#include "vector.h"

namespace {

// One allocation per task, cut into pieces aligned to the cache line.
struct Arena {
    char *base, *next;
    explicit Arena(int64_t floats, int64_t pieces) {
        size_t bytes = ceil_div(floats * 4 + pieces * 64, 64) * 64;
        base = next = static_cast<char *>(aligned_alloc(64, bytes));
    }
    ~Arena() { free(base); }
    float *take(int64_t floats) {
        char *p = next;
        next += ceil_div(floats * 4, 64) * 64;
        return reinterpret_cast<float *>(p);
    }
};

// A direction's walk over the map (hymunet/ops/reference.py: direction_order).
struct Walk {
    int64_t height, width;
    int direction;

    // Positions of `count` steps from step `first` on.
    void positions(int64_t first, int64_t count, int64_t *to) const {
        const int64_t step = direction & 1 ? -1 : 1;
        int64_t t = direction & 1 ? height * width - 1 - first : first;  // the same step of the forward walk
        if (direction < 2) {
            for (int64_t i = 0; i < count; i++) to[i] = t + step * i;
            return;
        }
        int64_t row = t % height, column = width - 1 - t / height;
        for (int64_t i = 0; i < count; i++) {
            to[i] = row * width + column;
            row += step;
            if (row < 0) row = height - 1, column++;
            if (row == height) row = 0, column--;
        }
    }
};

// The parameters of one direction for one channel block, channels innermost.
struct Parameters {
    float *a;       // (padded states, kChannels), times log2(e)
    float *weight;  // (rank, kChannels)
    float bias[kChannels], largest[kChannels];  // largest: max over the states of |a|, NaN if one is

    void read(const Scan &s, int direction, int64_t channel, int64_t count) {
        memset(a, 0, padded_states(s) * kChannels * 4);
        memset(weight, 0, s.rank * kChannels * 4);
        for (int64_t c = 0; c < kChannels; c++) {
            bias[c] = largest[c] = 0.0f;
            if (c >= count) continue;
            int64_t row = direction * s.channels + channel + c;
            bias[c] = s.dt_bias[row];
            for (int64_t n = 0; n < s.states; n++) {
                float v = s.a[row * s.states + n] * 1.44269504f;
                a[n * kChannels + c] = v;
                if (largest[c] == largest[c] && !(fabsf(v) <= largest[c])) largest[c] = fabsf(v);
            }
            for (int64_t r = 0; r < s.rank; r++) weight[r * kChannels + c] = s.dt_weight[row * s.rank + r];
        }
    }
};

constexpr int64_t kTile = kBlock * kChannels;
// Vectors whose exponentials are computed in step, to hide the units' latency: in softplus, in the decays of a state.
constexpr int kWide = LANES == 16 ? 2 : 4, kStep = LANES == 16 ? 4 : 2;

// One block of tokens of one direction and one channel block.
struct Block {
    int64_t count;
    bool bounded;  // every |delta * a| of the block is in exp2_bounded's range
    int64_t position[kBlock];
    float *rows;       // (kBlock, row): dt, then B and C, each padded with zeros to padded states
    int64_t row, b, c;  // length of a row, and where B and C start in it
    float delta[kBlock * kChannels], du[kBlock * kChannels];  // delta; delta * x

    void lay_out(const Scan &s, Arena &arena) {
        b = s.rank;
        c = b + padded_states(s);
        row = c + padded_states(s);
        rows = arena.take(kBlock * row);
        memset(rows, 0, kBlock * row * 4);
    }

    void read(const Scan &s, const Walk &walk, int64_t image, int64_t first) {
        const int64_t N = s.states, R = s.rank;
        const int64_t L = s.height * s.width;
        count = L - first < kBlock ? L - first : kBlock;
        walk.positions(first, count, position);
        for (int64_t t = 0; t < count; t++) {
            int64_t from = ((image * L + position[t]) * kDirections + walk.direction) * (R + 2 * N);
            float *to = rows + t * row;
            if (row == R + 2 * N) {
                ::read(to, s.proj, from, row, s.dtype);
                continue;
            }
            ::read(to, s.proj, from, R, s.dtype);
            ::read(to + b, s.proj, from + R, N, s.dtype);
            ::read(to + c, s.proj, from + R + N, N, s.dtype);
        }
    }

    // delta = softplus(weight @ dt + bias); with slope, also its derivative. x: the channel block's tile.
    void expand(const Scan &s, const Parameters &p, const float *x, float *slope) {
        constexpr int step = LANES == 4 ? 2 : 4;  // tokens that share a load of the weights
        const int64_t padded = ceil_div(count, step) * step;
        for (int64_t t = 0; t < padded; t += step) {
            vec z[step][kVectors];
            for (int i = 0; i < step; i++)
                for (int v = 0; v < kVectors; v++) z[i][v] = load(p.bias + v * kLanes);
            for (int64_t r = 0; r < s.rank; r++)
                for (int v = 0; v < kVectors; v++) {
                    const vec weight = load(p.weight + r * kChannels + v * kLanes);
#pragma GCC unroll 4
                    for (int i = 0; i < step; i++) z[i][v] += rows[(t + i) * row + r] * weight;
                }
            for (int i = 0; i < step; i++)
                for (int v = 0; v < kVectors; v++) store(delta + (t + i) * kChannels + v * kLanes, z[i][v]);
        }
        // Past the last token: a step of exp(-100), which decides nothing, until it is cleared below.
        for (int64_t i = count * kChannels; i < kBlock * kChannels; i++) delta[i] = -100.0f;
        for (int64_t t = count; t < kBlock; t++) position[t] = position[0];
        uvec longest[kVectors] = {};  // as integers, non-negative floats keep their order and NaN is above them all
        const Exp2 exp2;
        for (int64_t at = 0; at < count * kChannels; at += kWide * kLanes) {
            vec z[kWide], e[kWide], d[kWide];
            for (int j = 0; j < kWide; j++) z[j] = load(delta + at + j * kLanes);
            softplus<kWide>(exp2, z, e, d);
            for (int j = 0; j < kWide; j++) {
                const int64_t to = at + j * kLanes;
                const uvec step = reinterpret_cast<uvec>(d[j]);
                longest[j % kVectors] = step > longest[j % kVectors] ? step : longest[j % kVectors];
                store(delta + to, d[j]);
                store(du + to, d[j] * load(x + position[to / kChannels] * kChannels + to % kChannels));
                if (slope) store(slope + to, sigmoid(z[j], e[j]));
            }
        }
        for (int64_t i = count * kChannels; i < kBlock * kChannels; i++) delta[i] = du[i] = 0.0f;
        bounded = true;
        for (int v = 0; v < kVectors; v++) {
            const ivec inside = reinterpret_cast<vec>(longest[v]) * load(p.largest + v * kLanes) <= 126.0f;
            for (int i = 0; i < kLanes; i++) bounded = bounded && inside[i];
        }
    }
};

// decay[i][t] = exp(delta[t] * A_(n+i)) for kStatePad states of a block, (kStatePad, kBlock, kChannels).
INLINE void decays(const Block &k, const float *a, int64_t n, float *decay) {
    const int64_t end = k.count * kChannels;
    const bool bounded = k.bounded;
    const Exp2 exp2;
    for (int i = 0; i < kStatePad; i++)
        for (int64_t lane = 0; lane < kChannels; lane += kLanes) {
            const vec scale = load(a + (n + i) * kChannels + lane);
            float *to = decay + i * kTile;
            if (bounded)
                for (int64_t at = lane; at < end; at += kStep * kChannels) {
                    vec x[kStep], scales[kStep], p[kStep];
                    for (int j = 0; j < kStep; j++) x[j] = load(k.delta + at + j * kChannels), scales[j] = scale;
                    exp2.bounded<kStep>(x, scales, p);
                    for (int j = 0; j < kStep; j++) store(to + at + j * kChannels, p[j]);
                }
            else
                for (int64_t at = lane; at < end; at += kChannels)
                    store(to + at, exp2.any(load(k.delta + at), scale));
        }
}

INLINE int64_t block_channels(const Scan &s, int64_t block) {
    int64_t left = s.channels - block * kChannels;
    return left < kChannels ? left : kChannels;
}

INLINE void read_tile(float *tile, const void *from, const Scan &s, int64_t image, int64_t block) {
    const int64_t count = block_channels(s, block), L = s.height * s.width;
    for (int64_t p = 0; p < L; p++) {
        if (count < kChannels) memset(tile + p * kChannels, 0, kChannels * 4);
        read(tile + p * kChannels, from, (image * L + p) * s.channels + block * kChannels, count, s.dtype);
    }
}
INLINE void write_tile(void *to, const float *tile, const Scan &s, int64_t image, int64_t block) {
    const int64_t count = block_channels(s, block), L = s.height * s.width;
    for (int64_t p = 0; p < L; p++)
        write(to, (image * L + p) * s.channels + block * kChannels, tile + p * kChannels, count, s.dtype);
}

INLINE float *saved_state(const Scan &s, int64_t image, int direction, int64_t token_block, int64_t block) {
    int64_t index = (image * kDirections + direction) * (token_blocks(s) - 1) + token_block - 1;
    return s.saved + (index * channel_blocks(s) + block) * padded_states(s) * kChannels;
}

}  // namespace
