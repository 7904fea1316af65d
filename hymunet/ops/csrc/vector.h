// Vectors, conversions and the two special functions, for the instruction set this file is compiled for.
#pragma once
#include <cmath>
#include <cstring>

#include "scan.h"

#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX2__)
#define LANES 8
#else
#define LANES 4
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define INLINE_MEMBER inline __attribute__((always_inline))
#define INLINE static INLINE_MEMBER

namespace {

constexpr int kLanes = LANES;
constexpr int kVectors = kChannels / kLanes;  // vectors per channel block

typedef float vec __attribute__((vector_size(LANES * 4)));
typedef int32_t ivec __attribute__((vector_size(LANES * 4)));
typedef uint32_t uvec __attribute__((vector_size(LANES * 4)));
typedef float quad __attribute__((vector_size(16)));
typedef float vec_u __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef float quad_u __attribute__((vector_size(16), aligned(4), may_alias));

INLINE vec splat(float v) { return v - vec{}; }
INLINE vec load(const float *p) { return *reinterpret_cast<const vec_u *>(p); }
INLINE void store(float *p, vec v) { *reinterpret_cast<vec_u *>(p) = v; }
INLINE quad load4(const float *p) { return *reinterpret_cast<const quad_u *>(p); }
INLINE void store4(float *p, quad v) { *reinterpret_cast<quad_u *>(p) = v; }
INLINE ivec bits(vec v) { return reinterpret_cast<ivec>(v); }
INLINE vec floats(ivec v) { return reinterpret_cast<vec>(v); }
INLINE vec select(ivec mask, vec yes, vec no) { return mask ? yes : no; }
INLINE vec absolute(vec v) { return floats(bits(v) & 0x7fffffff); }

// a < b ? a : b and a > b ? a : b, so b where either is NaN: one instruction on x86, which no compiler finds by itself.
#if LANES == 16
INLINE vec lesser(vec a, vec b) { return _mm512_min_ps(a, b); }
INLINE vec greater(vec a, vec b) { return _mm512_max_ps(a, b); }
#elif LANES == 8
INLINE vec lesser(vec a, vec b) { return _mm256_min_ps(a, b); }
INLINE vec greater(vec a, vec b) { return _mm256_max_ps(a, b); }
#elif defined(__x86_64__)
INLINE vec lesser(vec a, vec b) { return _mm_min_ps(a, b); }
INLINE vec greater(vec a, vec b) { return _mm_max_ps(a, b); }
#else
INLINE vec lesser(vec a, vec b) { return select(a < b, a, b); }
INLINE vec greater(vec a, vec b) { return select(a > b, a, b); }
#endif

#if defined(__AVX512F__)
#define REGISTER "+v"
#elif defined(__x86_64__)
#define REGISTER "+x"
#elif defined(__aarch64__)
#define REGISTER "+w"
#endif
// Stops the compiler from reordering what is written in the order the execution units want.
INLINE vec opaque(vec v) {
#ifdef REGISTER
    asm("" : REGISTER(v));
#endif
    return v;
}
// A constant that is loaded here: hoisted out of an outer loop, it would hold a register that an inner loop needs.
INLINE vec constant(float f) {
    vec v = splat(f);
#ifdef REGISTER
    asm volatile("" : REGISTER(v));
#endif
    return v;
}

#define EACH _Pragma("GCC unroll 4") for (int i = 0; i < count; i++)
#if LANES == 16
// The bits of 2^(j / 32) less j << 18.
alignas(64) constexpr uint32_t kRoots[32] = {
    0x3f800000, 0x3f7ecd87, 0x3f7daac3, 0x3f7c980f, 0x3f7b95c2, 0x3f7aa43a, 0x3f79c3d3, 0x3f78f4f0,
    0x3f7837f0, 0x3f778d3a, 0x3f76f532, 0x3f767043, 0x3f75fed7, 0x3f75a15b, 0x3f75583f, 0x3f7523f6,
    0x3f7504f3, 0x3f74fbaf, 0x3f7508a4, 0x3f752c4d, 0x3f75672a, 0x3f75b9be, 0x3f76248c, 0x3f76a81e,
    0x3f7744fd, 0x3f77fbb8, 0x3f78ccdf, 0x3f79b907, 0x3f7ac0c7, 0x3f7be4ba, 0x3f7d257d, 0x3f7e83b3};

// to[i] = 2^(x[i] * scale[i]) for |x * scale| <= 126, several vectors in step: 2^(n / 32) for n = round(32 u) by one
// permutation of 32 roots, times a degree 2 minimax polynomial of the rest with p(0) = 1 (relative error 5.4e-8). n << 18
// adds n's whole part to the exponent, and below it what the table's entries lack.
struct Exp2 {
    // magic: 1.5 * 2^18; adding it rounds to a multiple of 1 / 32, n in the low bits.
    const vec magic = constant(393216.0f), one = constant(1.0f), c1 = constant(0x1.62e584p-1f),
              c2 = constant(0x1.ebfbdep-3f);
    const vec low = opaque(load(reinterpret_cast<const float *>(kRoots))),
              high = opaque(load(reinterpret_cast<const float *>(kRoots + 16)));

    template <int count>
    INLINE_MEMBER void bounded(const vec *x, const vec *scale, vec *to) const {
        vec n[count], f[count], root[count];
        EACH n[i] = opaque(x[i] * scale[i] + magic);
        EACH f[i] = opaque(n[i] - magic);
        EACH f[i] = opaque(x[i] * scale[i] - f[i]);
        EACH root[i] = _mm512_permutex2var_ps(low, _mm512_castps_si512(n[i]), high);
        EACH root[i] = opaque(floats(bits(root[i]) + (bits(n[i]) << 18)));
        EACH n[i] = opaque(c2 * f[i] + c1);
        EACH f[i] = opaque(root[i] * f[i]);
        EACH to[i] = n[i] * f[i] + root[i];
    }
#else
// to[i] = 2^(x[i] * scale[i]) for |x * scale| <= 126, several vectors in step: 2^round(u) by exponent arithmetic, times a
// degree 5 minimax polynomial of the rest with p(0) = 1 (relative error 9.2e-8; below 2 units in the last place with
// rounding).
struct Exp2 {
    // magic: 1.5 * 2^23; adding it rounds to an integer, held in the low bits.
    const vec magic = constant(12582912.0f), one = constant(1.0f), c1 = constant(0x1.62e42ap-1f),
              c2 = constant(0x1.ebf9bcp-3f), c3 = constant(0x1.c6b752p-5f), c4 = constant(0x1.3cea86p-7f),
              c5 = constant(0x1.5bba34p-10f);

    template <int count>
    INLINE_MEMBER void bounded(const vec *x, const vec *scale, vec *to) const {
        vec whole[count], f[count], p[count];
        EACH whole[i] = opaque(x[i] * scale[i] + magic);
        EACH p[i] = opaque(whole[i] - magic);
        EACH f[i] = opaque(x[i] * scale[i] - p[i]);
        EACH p[i] = opaque(c5 * f[i] + c4);
        EACH p[i] = opaque(p[i] * f[i] + c3);
        EACH p[i] = opaque(p[i] * f[i] + c2);
        EACH p[i] = opaque(p[i] * f[i] + c1);
        EACH p[i] = opaque(p[i] * f[i] + one);
        EACH to[i] = floats(bits(p[i]) + (bits(whole[i]) << 23));
    }
#endif

    // Without bounds: 0 below the normal range, infinity above it, NaN for NaN.
    INLINE_MEMBER vec any(vec x, vec scale) const {
        vec u = x * scale, inside = select(absolute(u) <= 126.0f, u, vec{}), p;
        bounded<1>(&inside, &one, &p);
        p = select(u < -126.0f, vec{}, p);
        p = select(u > 126.0f, splat(INFINITY), p);
        return select(u != u, u, p);
    }
};

// softplus(z) = max(z, 0) + log(1 + e) with e = exp(-|z|), and its derivative. log(1 + e) = 2 atanh(e / (2 + e)) keeps
// the relative accuracy of a tiny result (polynomial error 4.5e-9). Beyond |z| = 87, e has no more to say in float32.
template <int count>
INLINE void softplus(const Exp2 &exp2, const vec *z, vec *e, vec *to) {
    vec s[count], w[count], p[count], scale[count];
    EACH w[i] = lesser(absolute(z[i]), splat(87.0f));
    EACH scale[i] = splat(-1.44269504f);
    exp2.bounded<count>(w, scale, e);
    EACH s[i] = e[i] / (e[i] + 2.0f);
    EACH w[i] = s[i] * s[i];
    EACH p[i] = opaque(0.28012002f * w[i] + 0.280018f);
    EACH p[i] = opaque(p[i] * w[i] + 0.40021528f);
    EACH p[i] = opaque(p[i] * w[i] + 0.66666416f);
    EACH p[i] = opaque(p[i] * w[i] + 2.0f);
    EACH to[i] = s[i] * p[i] + greater(vec{}, z[i]);
#undef EACH
}
INLINE vec sigmoid(vec z, vec e) { return select(z < 0.0f, e, splat(1.0f)) / (e + 1.0f); }

// The sums over the lanes of four vectors.
#if LANES == 4
#define INTERLEAVE_LO 0, 4, 1, 5
#define INTERLEAVE_HI 2, 6, 3, 7
#define PAIRS_LO 0, 1, 4, 5
#define PAIRS_HI 2, 3, 6, 7
#elif LANES == 8
#define INTERLEAVE_LO 0, 8, 1, 9, 4, 12, 5, 13
#define INTERLEAVE_HI 2, 10, 3, 11, 6, 14, 7, 15
#define PAIRS_LO 0, 1, 8, 9, 4, 5, 12, 13
#define PAIRS_HI 2, 3, 10, 11, 6, 7, 14, 15
#else
#define INTERLEAVE_LO 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29
#define INTERLEAVE_HI 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31
#define PAIRS_LO 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29
#define PAIRS_HI 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31
#endif
INLINE vec interleave_sum(vec a, vec b) {
    return __builtin_shufflevector(a, b, INTERLEAVE_LO) + __builtin_shufflevector(a, b, INTERLEAVE_HI);
}
INLINE quad sum4(vec a, vec b, vec c, vec d) {
    vec ab = interleave_sum(a, b), cd = interleave_sum(c, d);
    vec all = __builtin_shufflevector(ab, cd, PAIRS_LO) + __builtin_shufflevector(ab, cd, PAIRS_HI);
    quad parts[kLanes / 4];
    memcpy(parts, &all, sizeof all);
    quad sum = parts[0];
    for (int i = 1; i < kLanes / 4; i++) sum += parts[i];
    return sum;
}

// Denormals are flushed while a task runs: a state that decays to nothing would otherwise cost a trap per step.
struct FlushDenormals {
#if defined(__x86_64__)
    unsigned before = _mm_getcsr();
    FlushDenormals() { _mm_setcsr(before | 0x8040); }
    ~FlushDenormals() { _mm_setcsr(before); }
#elif defined(__aarch64__)
    uint64_t before;
    FlushDenormals() {
        asm volatile("mrs %0, fpcr" : "=r"(before));
        asm volatile("msr fpcr, %0" : : "r"(before | (1ull << 24)));
    }
    ~FlushDenormals() { asm volatile("msr fpcr, %0" : : "r"(before)); }
#endif
};

// Loads and stores of float32 (0), bfloat16 (1) and float16 (2), rounding to nearest even.
INLINE float float_of(uint32_t b) { float f; memcpy(&f, &b, 4); return f; }
INLINE uint32_t bits_of(float f) { uint32_t b; memcpy(&b, &f, 4); return b; }

INLINE float from_half(uint32_t h) {
    uint32_t sign = (h & 0x8000) << 16, rest = h & 0x7fff;
    if (rest >= 0x7c00) return float_of(sign | 0x7f800000 | (rest & 0x3ff) << 13);
    if (rest >= 0x400) return float_of(sign | ((rest << 13) + (112u << 23)));
    return float_of(sign | bits_of(static_cast<float>(rest) * 0x1p-24f));
}
INLINE uint16_t to_half(float f) {
    uint32_t b = bits_of(f), sign = b >> 16 & 0x8000, rest = b & 0x7fffffff;
    if (rest > 0x7f800000) return static_cast<uint16_t>(sign | 0x7e00);
    if (rest >= 0x47800000) return static_cast<uint16_t>(sign | 0x7c00);
    if (rest < 0x38800000) return static_cast<uint16_t>(sign | (bits_of(float_of(rest) + 0.5f) - 0x3f000000));
    return static_cast<uint16_t>(sign | (rest - (112u << 23) + 0xfff + (rest >> 13 & 1)) >> 13);
}
INLINE uint16_t to_bfloat(float f) {
    uint32_t b = bits_of(f);
    if ((b & 0x7fffffff) > 0x7f800000) return static_cast<uint16_t>(b >> 16 | 0x40);
    return static_cast<uint16_t>((b + 0x7fff + (b >> 16 & 1)) >> 16);
}

INLINE void read(float *to, const void *from, int64_t offset, int64_t count, int32_t dtype) {
    if (dtype == 0) {
        const float *p = static_cast<const float *>(from) + offset;
        int64_t i = 0;
        for (; i + 16 <= count; i += 16)
            for (int j = 0; j < 16; j += kLanes) store(to + i + j, load(p + i + j));
        for (; i + 4 <= count; i += 4) store4(to + i, load4(p + i));
        for (; i < count; i++) to[i] = p[i];
        return;
    }
    const uint16_t *p = static_cast<const uint16_t *>(from) + offset;
    if (dtype == 1)
        for (int64_t i = 0; i < count; i++) to[i] = float_of(static_cast<uint32_t>(p[i]) << 16);
    else
        for (int64_t i = 0; i < count; i++) to[i] = from_half(p[i]);
}
INLINE void write(void *to, int64_t offset, const float *from, int64_t count, int32_t dtype) {
    if (dtype == 0) {
        float *p = static_cast<float *>(to) + offset;
        int64_t i = 0;
        for (; i + 16 <= count; i += 16)
            for (int j = 0; j < 16; j += kLanes) store(p + i + j, load(from + i + j));
        for (; i + 4 <= count; i += 4) store4(p + i, load4(from + i));
        for (; i < count; i++) p[i] = from[i];
        return;
    }
    uint16_t *p = static_cast<uint16_t *>(to) + offset;
    if (dtype == 1)
        for (int64_t i = 0; i < count; i++) p[i] = to_bfloat(from[i]);
    else
        for (int64_t i = 0; i < count; i++) p[i] = to_half(from[i]);
}

}  // namespace
