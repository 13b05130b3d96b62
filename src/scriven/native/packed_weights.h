// The weights of a linear layer, packed as its products read them.
//
// The matrix (out, in) is packed in strips of STRIP output columns; a strip holds, for each input,
// the weights of its columns side by side, in lanes of 32 bits. Shorter weights share a lane with
// those of the next inputs.
//
// Weights are float32, bfloat16, or int8 or int4 with a scale for each GROUP inputs of an output, as
// llama.cpp's q8_0 and q4_0.
#pragma once

#include <vector>

#include "buffer.h"
#include "weight_types.h"

constexpr int STRIP = 2 * LANES;

inline int padded(int columns) { return (columns + STRIP - 1) / STRIP * STRIP; }

class PackedWeights {
   public:
    int in = 0, out = 0;

    int strips() const { return padded(out) / STRIP; }

    // weight (out, in), row-major; bias (out,) or null
    void pack(const float* weight, const float* bias, int out_size, int in_size, WeightType kind) {
        in = in_size, out = out_size, type_ = kind;
        // Where the last group is shorter, a whole one is read: weights of the next strip, or room
        // behind the last strip. Its inputs are 0.
        const size_t bytes = (strips() * strip_size() + GROUP * STRIP) * sizeof(uint32_t);
        data_.reset(static_cast<uint32_t*>(allocate(bytes)));
        std::memset(data_.get(), zero_byte(type_), bytes);
        bias_.assign(padded(out), 0.0f);
        if (bias) std::copy_n(bias, out, bias_.begin());
        if (has_scales(type_)) scales_.assign(strips() * groups() * STRIP, 1.0f);
        for (int column = 0; column < out; column++) pack_column(weight + int64_t(in) * column, column);
    }

   protected:
    int groups() const { return whole_groups(in); }

    // lanes of a strip
    size_t strip_size() const {
        const int shared = per_lane(type_);
        return size_t(in + shared - 1) / shared * STRIP;
    }

    WeightType type_ = WeightType::FLOAT32;
    std::unique_ptr<uint32_t, Free> data_;
    std::vector<float> bias_, scales_;

   private:
    // the lowest bits of `value` become the weight of an input
    void put(int column, int k, uint32_t value) {
        const int shared = per_lane(type_);
        const size_t lane = column / STRIP * strip_size() + k / shared * STRIP + column % STRIP;
        const uint32_t mask = shared == 1 ? ~0u : (1u << (32 / shared)) - 1;
        const int shift = place(type_, k % shared) * (32 / shared);
        data_.get()[lane] = (data_.get()[lane] & ~(mask << shift)) | (value & mask) << shift;
    }

    void pack_column(const float* weight, int column) {
        if (type_ == WeightType::FLOAT32) {
            for (int k = 0; k < in; k++) {
                uint32_t bits;
                std::memcpy(&bits, weight + k, 4);
                put(column, k, bits);
            }
        } else if (type_ == WeightType::BFLOAT16) {
            for (int k = 0; k < in; k++) {
                uint16_t half;
                convert(weight[k], &half);
                put(column, k, half);
            }
        } else {
            for (int group = 0; group < groups(); group++) pack_group(weight, column, group);
        }
    }

    // int8: -127 .. 127; int4: -8 .. 7, where the largest weight becomes -8 exactly. A group with a
    // weight that is not finite has the scale NaN, so that the output shows it.
    void pack_group(const float* weight, int column, int group) {
        const int begin = group * GROUP, end = std::min(in, begin + GROUP);
        float largest = 0;
        bool finite = true;
        for (int k = begin; k < end; k++) {
            finite = finite && std::isfinite(weight[k]);
            if (std::fabs(weight[k]) > std::fabs(largest)) largest = weight[k];
        }
        const bool is_int4 = type_ == WeightType::INT4;
        const int least = is_int4 ? -8 : -127, most = is_int4 ? 7 : 127;
        const int offset = is_int4 ? INT4_OFFSET : BYTE_OFFSET;
        float scale = largest / (is_int4 ? -8 : 127);
        if (scale == 0) scale = 1;  // all are 0, or too small for a float to divide
        float& kept = scales_[(column / STRIP * groups() + group) * STRIP + column % STRIP];
        kept = finite ? scale : NAN;
        for (int k = begin; finite && k < end; k++) {
            const float rounded = std::nearbyint(weight[k] / scale);
            put(column, k, std::clamp(int(rounded), least, most) + offset);
        }
    }
};
