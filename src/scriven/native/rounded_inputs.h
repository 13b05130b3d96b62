// Inputs of a linear layer in the precision of its weights, for CPUs that multiply such numbers and
// add the products in one instruction: pairs of bfloat16 (AVX512_BF16), or four bytes (AVX-VNNI,
// and AVX2 in a few instructions).
//
// Bytes have a scale for each GROUP inputs of a row, largest / 127, as in llama.cpp's q8_0 (Jacob et
// al. 2018, section 2.4: integer products, scales outside). A row is rounded by itself.
#pragma once

#include <vector>

#include "simd.h"

constexpr int GROUP = 32;

#if defined(__AVX512VNNI__) && defined(__AVX512BW__)
#define HAS_BYTES 1
constexpr int BYTE_OFFSET = 128;  // weights are stored unsigned, as the instruction wants one factor

// sum of each lane + the four products of its weights (unsigned) and inputs (signed)
inline Ints dot_bytes(Ints sum, Ints weights, int32_t inputs) {
    return (Ints)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)weights, _mm512_set1_epi32(inputs));
}
#elif defined(__AVX2__) && !defined(__AVX512F__)
#define HAS_BYTES 1
constexpr int BYTE_OFFSET = 0;  // signed, between -127 and 127

// sums of two products fit into 16 bits: 2 * 127 * 127 < 2^15
inline Ints dot_bytes(Ints sum, Ints weights, int32_t inputs) {
    const __m256i signs = (__m256i)weights;
    const __m256i signed_inputs = _mm256_sign_epi8(_mm256_set1_epi32(inputs), signs);
    const __m256i twos = _mm256_maddubs_epi16(_mm256_abs_epi8(signs), signed_inputs);
    return sum + (Ints)_mm256_madd_epi16(twos, _mm256_set1_epi16(1));
}
#else
constexpr int BYTE_OFFSET = 0;
#endif

inline int whole_groups(int in) { return (in + GROUP - 1) / GROUP; }

// some rows as they are
class FloatRows {
   public:
    void round(const float* x, int stride, int, int) { x_ = x, stride_ = stride; }
    const float* operator[](int row) const { return x_ + int64_t(row) * stride_; }

   private:
    const float* x_ = nullptr;
    int stride_ = 0;
};

#ifdef HAS_BYTES
// some rows as bytes; zeros behind the last input
class ByteRows {
   public:
    // x (rows, in) with zeros up to a multiple of LANES
    void round(const float* x, int stride, int rows, int in) {
        groups_ = whole_groups(in);
        values_.resize(size_t(rows) * groups_ * GROUP);
        scales_.resize(size_t(rows) * groups_);
        totals_.resize(size_t(rows) * groups_);
        for (int row = 0; row < rows; row++) {
            for (int group = 0; group < groups_; group++) {
                round_group(x + int64_t(row) * stride + group * GROUP,
                            std::min(GROUP, in - group * GROUP), size_t(row) * groups_ + group);
            }
        }
    }

    // four inputs of a row
    int32_t at(int row, int k) const {
        int32_t four;
        std::memcpy(&four, values_.data() + size_t(row) * groups_ * GROUP + k, 4);
        return four;
    }
    float scale(int row, int group) const { return scales_[size_t(row) * groups_ + group]; }
    // of the bytes of a group
    int32_t total(int row, int group) const { return totals_[size_t(row) * groups_ + group]; }

   private:
    typedef int8_t Bytes __attribute__((vector_size(LANES), aligned(1), may_alias));

    void round_group(const float* x, int count, size_t group) {
        Floats parts[GROUP / LANES] = {}, sizes{}, total{};
        for (int i = 0; i * LANES < count; i++) {
            parts[i] = load(x + i * LANES);
            const Floats size = select(parts[i] < 0.0f, -parts[i], parts[i]);
            sizes = select(size > sizes, size, sizes);
        }
        const float most = std::max(1e-30f, largest(&sizes));
        const float inverse = 127.0f / most, round_to_int = 12582912.0f;  // as in exp()
        for (int i = 0; i < GROUP / LANES; i++) {
            const Floats shifted = parts[i] * inverse + round_to_int;
            total += shifted - round_to_int;
            const Ints rounded = reinterpret_cast<Ints>(shifted) - 0x4b400000;
            const Bytes bytes = __builtin_convertvector(rounded, Bytes);
            std::memcpy(values_.data() + group * GROUP + i * LANES, &bytes, LANES);
        }
        const float sum_of_bytes = sum(total);
        scales_[group] = most / 127.0f + 0.0f * sum_of_bytes;  // NaN where an input is not finite
        totals_[group] = std::isfinite(sum_of_bytes) ? int(sum_of_bytes) : 0;
    }

    int groups_ = 0;
    std::vector<int8_t> values_;
    std::vector<float> scales_;
    std::vector<int32_t> totals_;
};
#endif

#ifdef HAS_PAIRS
// some rows as pairs of bfloat16; zeros behind the last input
class PairRows {
   public:
    // x (rows, in) with zeros up to a multiple of LANES
    void round(const float* x, int stride, int rows, int in) {
        stride_ = (in + 2 * LANES - 1) / (2 * LANES) * LANES;
        values_.resize(size_t(rows) * stride_);
        for (int row = 0; row < rows; row++) {
            const float* from = x + int64_t(row) * stride;
            for (int k = 0; k < in; k += 2 * LANES) {
                const Floats second = k + LANES < in ? load(from + k + LANES) : Floats{};
                store(&values_[size_t(row) * stride_ + k / 2], round_neighbours(load(from + k), second));
            }
        }
    }

    const Pair* operator[](int row) const { return values_.data() + size_t(row) * stride_; }

   private:
    int stride_ = 0;
    std::vector<Pair> values_;
};
#endif
