// Vectors of floats in the width of this CPU, and the functions that kernels apply to them.
//
// GCC's and Clang's vector extensions: the same source becomes AVX-512, AVX2, SSE or NEON.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif
#if defined(__AVX512BF16__) && defined(__AVX512BW__)
#define HAS_PAIRS 1
#endif

#if defined(__AVX512F__)
constexpr int LANES = 16;
#elif defined(__AVX__)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif
constexpr int MAX_ROWS = 6;  // of a tile
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int MAX_SUMS = 24;  // of a tile: this many of 32 registers
#else
constexpr int MAX_SUMS = 12;  // of 16 registers
#endif

// loads and stores need no alignment
typedef float Floats __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t Ints __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef uint16_t Halves __attribute__((vector_size(2 * LANES), aligned(2), may_alias));

inline Floats load(const float* from) { return *reinterpret_cast<const Floats*>(from); }

// bfloat16 is the upper half of a float32
inline Floats load(const uint16_t* from) {
    const Halves halves = *reinterpret_cast<const Halves*>(from);
    return reinterpret_cast<Floats>(__builtin_convertvector(halves, Ints) << 16);
}

inline Floats multiply_add(Floats sum, Floats value, float x) { return sum + value * x; }

// Two bfloat16, the first in the lower half: one instruction multiplies a pair with another one and
// adds both products to a float32.
typedef uint32_t Pair;

#ifdef HAS_PAIRS
typedef uint32_t Pairs __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

inline Pairs load(const Pair* from) { return *reinterpret_cast<const Pairs*>(from); }
inline void store(Pair* to, Pairs value) { *reinterpret_cast<Pairs*>(to) = value; }

inline Floats multiply_add(Floats sum, Pairs value, Pair x) {
    return (Floats)_mm512_dpbf16_ps((__m512)sum, (__m512bh)(Pairs{} + x), (__m512bh)value);
}

// LANES neighbours of a row of 2 LANES numbers each
inline Pairs round_neighbours(Floats first, Floats second) {
    return (Pairs)_mm512_cvtne2ps_pbh((__m512)second, (__m512)first);
}

// each number of a row with the one below it
inline Pairs round_rows(Floats upper, Floats lower) {
    alignas(64) static constexpr int16_t order[] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                                    21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                                    11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    const __m512i halves = (__m512i)_mm512_cvtne2ps_pbh((__m512)lower, (__m512)upper);
    return (Pairs)_mm512_permutexvar_epi16(_mm512_load_si512(order), halves);
}
#endif

inline void store(float* to, Floats value) { *reinterpret_cast<Floats*>(to) = value; }

inline float to_float(float value) { return value; }
inline float to_float(uint16_t value) {
    const uint32_t bits = static_cast<uint32_t>(value) << 16;
    float wide;
    std::memcpy(&wide, &bits, 4);
    return wide;
}

// rounds to nearest, ties to even, as PyTorch does; NaN stays NaN
inline void convert(float value, float* to) { *to = value; }
inline void convert(float value, uint16_t* to) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    const bool is_nan = (bits & 0x7fffffffu) > 0x7f800000u;
    *to = is_nan ? 0x7fc0 : static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1)) >> 16);
}

// the sum of all lanes: halves are added until one is left
template <int COUNT>
inline float sum_lanes(const void* lanes) {
    if constexpr (COUNT == 1) {
        float value;
        std::memcpy(&value, lanes, 4);
        return value;
    } else {
        typedef float Half __attribute__((vector_size(2 * COUNT)));
        Half low, high;
        std::memcpy(&low, lanes, sizeof low);
        std::memcpy(&high, static_cast<const char*>(lanes) + sizeof low, sizeof high);
        low += high;
        return sum_lanes<COUNT / 2>(&low);
    }
}

inline float sum(Floats value) { return sum_lanes<LANES>(&value); }

// One step of adding up the lanes of several vectors at once: the upper half of each part of
// 2 HALF lanes is added to its lower half. With four lanes and HALF = 2:
// (a0 a1 a2 a3), (b0 b1 b2 b3) -> (a0+a2 a1+a3 b0+b2 b1+b3).
template <int HALF>
inline Floats add_halves(Floats first, Floats second) {
    Ints lower;
    for (int lane = 0; lane < LANES; lane++) {
        const int part = lane / HALF;
        lower[lane] = part % 2 * LANES + part / 2 * 2 * HALF + lane % HALF;
    }
#if defined(__clang__)
    Floats sums;
    for (int lane = 0; lane < LANES; lane++) {
        const Floats& from = lower[lane] < LANES ? first : second;
        sums[lane] = from[lower[lane] % LANES] + from[lower[lane] % LANES + HALF];
    }
    return sums;
#else
    return __builtin_shuffle(first, second, lower) + __builtin_shuffle(first, second, lower + HALF);
#endif
}

// the sum of each of LANES vectors, in their order; each as `sum` has it
template <int HALF = LANES / 2>
inline Floats sum_each(Floats (&vectors)[LANES]) {
    if constexpr (HALF == 0) {
        return vectors[0];
    } else {
        for (int i = 0; i < HALF; i++) vectors[i] = add_halves<HALF>(vectors[i], vectors[i + HALF]);
        return sum_each<HALF / 2>(vectors);
    }
}

// the largest of all lanes
template <int COUNT = LANES>
inline float largest(const void* lanes) {
    if constexpr (COUNT == 1) {
        return sum_lanes<1>(lanes);
    } else {
        typedef float Half __attribute__((vector_size(2 * COUNT)));
        Half low, high;
        std::memcpy(&low, lanes, sizeof low);
        std::memcpy(&high, static_cast<const char*>(lanes) + sizeof low, sizeof high);
        low = low > high ? low : high;
        return largest<COUNT / 2>(&low);
    }
}

inline Floats select(Ints mask, Floats yes, Floats no) { return mask ? yes : no; }

// NaN where `value` is one
inline Floats at_least(float least, Floats value) {
#if defined(__AVX512F__)
    return (Floats)_mm512_max_ps(_mm512_set1_ps(least), (__m512)value);
#else
    return select(value < least, Floats{} + least, value);
#endif
}
inline Floats at_most(float most, Floats value) {
#if defined(__AVX512F__)
    return (Floats)_mm512_min_ps(_mm512_set1_ps(most), (__m512)value);
#else
    return select(value > most, Floats{} + most, value);
#endif
}

// e^x = 2^n e^r with |r| <= ln(2) / 2, and the polynomial of degree 6 that is nearest to e^r (Remez;
// relative error 2e-9)
inline Floats exp(Floats x) {
    x = at_least(-87.0f, at_most(87.0f, x));
    const float round_to_int = 12582912.0f;  // 1.5 * 2^23: adding it drops the fraction
    const Floats shifted = x * 1.44269504088896341f + round_to_int;
    const Floats n = shifted - round_to_int;
    const Floats r = (x - n * 0.693145751953125f) - n * 1.42860682030941723e-6f;  // ln(2), two parts
    Floats y = Floats{} + 1.383679401e-3f;
    const float others[] = {8.374857074e-3f, 4.166822868e-2f, 0.1666641968f, 0.4999999206f, 1.0f, 1.0f};
    for (const float coefficient : others) y = y * r + coefficient;
#if defined(__AVX512F__)
    return (Floats)_mm512_scalef_ps((__m512)y, (__m512)n);
#else
    const Ints exponent = (reinterpret_cast<Ints>(shifted) - 0x4b400000 + 127) << 23;
    return y * reinterpret_cast<Floats>(exponent);
#endif
}

// 1 / x but for the last digit, for x from 2^-126 to 2^126: one Newton step, faster than a division
inline Floats reciprocal(Floats x) {
#if defined(__AVX512F__)
    const Floats near = (Floats)_mm512_rcp14_ps((__m512)x);
    return near + near * (1.0f - x * near);
#else
    return 1.0f / x;
#endif
}

inline Floats sigmoid(Floats x) { return reciprocal(1.0f + exp(-x)); }

// Abramowitz and Stegun 1964, 7.1.26: absolute error below 1.5e-7
inline Floats erf(Floats x) {
    const Floats size = select(x < 0.0f, -x, x);
    const Floats t = 1.0f / (1.0f + 0.3275911f * size);
    Floats y = Floats{} + 1.061405429f;
    for (const float c : {-1.453152027f, 1.421413741f, -0.284496736f, 0.254829592f}) y = y * t + c;
    const Floats value = 1.0f - y * t * exp(-size * size);
    return select(x < 0.0f, -value, value);
}

enum class Activation : int { SILU, GELU, GELU_TANH, RELU };

struct Activated {
    Floats value, slope;  // the derivative at x
};

template <Activation KIND>
inline Activated activate(Floats x) {
    if constexpr (KIND == Activation::SILU) {
        const Floats factor = sigmoid(x), value = x * factor;
        return {value, factor * (1.0f + x - value)};
    } else if constexpr (KIND == Activation::GELU) {
        const Floats normal = 0.5f * (1.0f + erf(x * 0.70710678118654752f));
        return {x * normal, normal + x * exp(-0.5f * x * x) * 0.39894228040143268f};  // 1 / sqrt(2 pi)
    } else if constexpr (KIND == Activation::GELU_TANH) {
        // (1 + tanh(u)) / 2 is the sigmoid of 2 u, here with 2 sqrt(2 / pi) in place of sqrt(2 / pi)
        const Floats square = x * x;
        const Floats factor = sigmoid(x * (1.5957691216057307f + 0.071354816272600229f * square));
        const Floats value = x * factor;
        return {value, factor + (value - value * factor) *
                                    (1.5957691216057307f + 0.21406444881780069f * square)};
    } else {
        const Floats one = Floats{} + 1.0f;
        return {select(x < 0.0f, Floats{}, x), select(x > 0.0f, one, select(x <= 0.0f, Floats{}, x))};
    }
}

// function.operator()<KIND>() for a kind that is known at run time
template <class Function>
inline auto of_activation(Activation kind, const Function& function) {
    switch (kind) {
        case Activation::SILU:
            return function.template operator()<Activation::SILU>();
        case Activation::GELU:
            return function.template operator()<Activation::GELU>();
        case Activation::GELU_TANH:
            return function.template operator()<Activation::GELU_TANH>();
        default:
            return function.template operator()<Activation::RELU>();
    }
}

inline Floats activate(Activation kind, Floats x) {
    return of_activation(kind, [&]<Activation KIND>() { return activate<KIND>(x).value; });
}
