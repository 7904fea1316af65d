// The C ABI between hymunet/ops/cpu.py (ctypes) and the kernels. Everything is row-major and contiguous.
#pragma once
#include <cstdint>

struct Scan {
    int64_t batch, height, width, channels, states, rank;
    int32_t dtype;  // of x, proj, y, grad_y, grad_x, grad_proj: 0 float32, 1 bfloat16, 2 float16
    int32_t threads;
    void *gomp_parallel;  // GOMP_parallel of the OpenMP runtime torch uses, or null: plain threads
    const void *x, *proj;
    const float *a, *dt_weight, *dt_bias, *skip;
    void *y;
    float *saved;  // (batch, 4, blocks - 1, channel blocks, padded states, kChannels): the state that enters each block;
                   // null in a forward that no backward follows
    const void *grad_y;
    void *grad_x, *grad_proj;
    float *grad_a, *grad_dt_weight, *grad_dt_bias, *grad_skip;
    float *partial_proj;    // (groups, batch, height * width, 4, rank + 2 * states)
    float *partial_params;  // (batch, 4, channels, states + rank + 2)
};

constexpr int64_t kChannels = 16;  // channels scanned together: one cache line of float32
constexpr int64_t kBlock = 32;     // tokens between two saved states
constexpr int64_t kStatePad = 4;   // states are padded to a multiple of this
constexpr int kDirections = 4;

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// One instruction set's kernels. A task is independent of every other task of its kernel and returns non-zero when
// it finds no memory. Tasks, not threads, decide the order of every sum.
struct Kernels {
    const char *name;
    int64_t (*forward_tasks)(const Scan &);
    int (*forward)(const Scan &, int64_t task);
    int (*backward)(const Scan &, int64_t task);
    int (*reduce)(const Scan &, int64_t task);
    double (*peak)(int64_t rounds);  // state updates made by the bare inner loop, for the micro-benchmark
};

inline int64_t channel_blocks(const Scan &s) { return ceil_div(s.channels, kChannels); }
inline int64_t token_blocks(const Scan &s) { return ceil_div(s.height * s.width, kBlock); }
inline int64_t padded_states(const Scan &s) { return ceil_div(s.states, kStatePad) * kStatePad; }

// Channel blocks that share one partial gradient of proj: few partials for memory, enough tasks for the cores.
// A function of the shape alone, so that results do not depend on the number of threads.
inline int64_t group_size(const Scan &s) {
    int64_t blocks = channel_blocks(s), size = 4;
    while (size > 1 && s.batch * ceil_div(blocks, size) < 8) size /= 2;
    return size;
}
inline int64_t groups(const Scan &s) { return ceil_div(channel_blocks(s), group_size(s)); }

constexpr int64_t kReduceRows = 256;  // rows of proj that one reduce task sums
inline int64_t reduce_proj_tasks(const Scan &s) {
    if (s.partial_proj == s.grad_proj) return 0;  // a single partial gradient, already in its place
    return ceil_div(s.batch * s.height * s.width * kDirections, kReduceRows);
}
inline int64_t reduce_tasks(const Scan &s) { return reduce_proj_tasks(s) + kDirections * channel_blocks(s); }
