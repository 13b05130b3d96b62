// Linear layers whose weights are read once for all rows: y = x W^T + b.
//
// The matrix (out, in) is packed in strips of STRIP output columns; a strip holds, for each input,
// the weights of its columns side by side, in lanes of 32 bits. Shorter weights share a lane with
// those of the next inputs. A tile multiplies one or two strips with a few rows and keeps its sums
// in registers. Each sum adds the inputs in their order, so that a row's result does not depend on
// how many rows there are.
//
// Weights are float32, bfloat16, int8 with a scale for each output, or int4 with a scale for each
// GROUP inputs of an output; sums and inputs are float32.
#pragma once

#include <cstdlib>
#include <memory>
#include <new>
#include <vector>

#include "simd.h"

constexpr int STRIP = 2 * LANES;
constexpr int GROUP = 32;

enum class WeightType : int { FLOAT32, BFLOAT16, INT8, INT4 };

inline int padded(int columns) { return (columns + STRIP - 1) / STRIP * STRIP; }

// inputs whose weights share a lane
constexpr int per_lane(WeightType type) {
    return type == WeightType::FLOAT32 ? 1
           : type == WeightType::BFLOAT16 ? 2
           : type == WeightType::INT8 ? 4
                                      : 8;
}

// weight `number` of a lane, but for its scale
template <WeightType TYPE>
inline Floats unpack(Ints lanes, int number) {
    if constexpr (TYPE == WeightType::FLOAT32) {
        return reinterpret_cast<Floats>(lanes);
    } else if constexpr (TYPE == WeightType::BFLOAT16) {
        return reinterpret_cast<Floats>(number ? lanes & int(0xffff0000u) : lanes << 16);
    } else {  // the sign is that of the leftmost bit
        constexpr int bits = 32 / per_lane(TYPE);
        return __builtin_convertvector(lanes << (32 - bits * (number + 1)) >> (32 - bits), Floats);
    }
}

// a part [begin, end) of `count` things for each thread
struct Part {
    int begin, end;
    Part(int from, int to) : begin(from), end(to) {}
    Part(int count, int thread, int threads)
        : begin(static_cast<int64_t>(count) * thread / threads),
          end(static_cast<int64_t>(count) * (thread + 1) / threads) {}
    int size() const { return end - begin; }
};

// a block of rows: its number, and 2^16 / the number of blocks
struct Turn {
    int number, fraction;
};

struct Free {
    void operator()(void* memory) const { std::free(memory); }
};

class Linear {
   public:
    int in = 0, out = 0;

    int strips() const { return padded(out) / STRIP; }

    // weight (out, in), row-major; bias (out,) or null
    void pack(const float* weight, const float* bias, int out_size, int in_size, WeightType kind) {
        in = in_size, out = out_size, type_ = kind;
        const size_t bytes = strips() * strip_size() * sizeof(uint32_t), page = 1 << 12;
        data_.reset(static_cast<uint32_t*>(std::aligned_alloc(page, (bytes + page - 1) / page * page)));
        if (!data_) throw std::bad_alloc();
        std::memset(data_.get(), 0, bytes);
        bias_.assign(padded(out), 0.0f);
        if (bias) std::copy_n(bias, out, bias_.begin());
        if (type_ == WeightType::INT8) scales_.assign(padded(out), 1.0f);
        if (type_ == WeightType::INT4) scales_.assign(strips() * groups() * STRIP, 1.0f);
        for (int column = 0; column < out; column++) pack_column(weight + int64_t(in) * column, column);
    }

    // y = x W^T + b for the strips [begin, end); with `add` the result is added to y.
    // y has room for whole strips; x is 0 behind its last input.
    void multiply(const float* x, int x_stride, float* y, int y_stride, int rows, Part strips,
                  bool add = false) const {
        switch (type_) {
            case WeightType::FLOAT32:
                return multiply<WeightType::FLOAT32>(x, x_stride, y, y_stride, rows, strips, add);
            case WeightType::BFLOAT16:
                return multiply<WeightType::BFLOAT16>(x, x_stride, y, y_stride, rows, strips, add);
            case WeightType::INT8:
                return multiply<WeightType::INT8>(x, x_stride, y, y_stride, rows, strips, add);
            case WeightType::INT4:
                return multiply<WeightType::INT4>(x, x_stride, y, y_stride, rows, strips, add);
        }
    }

   private:
    int groups() const { return (in + GROUP - 1) / GROUP; }

    // lanes of a strip
    size_t strip_size() const {
        const int shared = per_lane(type_);
        return size_t(in + shared - 1) / shared * STRIP;
    }

    // the lowest bits of `value` become the weight of an input
    void put(int column, int k, uint32_t value) {
        const int shared = per_lane(type_);
        const size_t lane = column / STRIP * strip_size() + k / shared * STRIP + column % STRIP;
        const uint32_t mask = shared == 1 ? ~0u : (1u << (32 / shared)) - 1;
        data_.get()[lane] |= (value & mask) << (k % shared * (32 / shared));
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
        } else if (type_ == WeightType::INT8) {  // -127 .. 127
            float largest = 1e-12f;
            for (int k = 0; k < in; k++) largest = std::max(largest, std::fabs(weight[k]));
            const float scale = scales_[column] = largest / 127;
            for (int k = 0; k < in; k++) put(column, k, int(std::nearbyint(weight[k] / scale)));
        } else {  // -8 .. 7; the largest weight of a group becomes -8 exactly
            for (int group = 0; group < groups(); group++) {
                const int begin = group * GROUP, end = std::min(in, begin + GROUP);
                float largest = 0;
                for (int k = begin; k < end; k++) {
                    if (std::fabs(weight[k]) > std::fabs(largest)) largest = weight[k];
                }
                const float scale = largest == 0 ? 1.0f : largest / -8;
                scales_[(column / STRIP * groups() + group) * STRIP + column % STRIP] = scale;
                for (int k = begin; k < end; k++) {
                    put(column, k, std::min(7, int(std::nearbyint(weight[k] / scale))));
                }
            }
        }
    }

    // `turn`: which block of rows this is; each fetches its part of the strips that come next
    template <WeightType TYPE, int ROWS, int STRIPS>
    void tile(const float* x, int x_stride, float* y, int y_stride, int strip, bool add,
              Turn turn) const {
        constexpr int SHARED = per_lane(TYPE);
        const uint32_t* weights[STRIPS];
        for (int s = 0; s < STRIPS; s++) weights[s] = data_.get() + (strip + s) * strip_size();
        Floats sums[ROWS][2 * STRIPS] = {};
        const int group_size = TYPE == WeightType::INT4 ? GROUP : in;
        const int64_t fetched = int64_t(turn.number) * (strip_size() / STRIP);
        for (int begin = 0; begin < in; begin += group_size) {
            Floats scales[2 * STRIPS];
            if constexpr (TYPE == WeightType::INT4) {
                for (int v = 0; v < 2 * STRIPS; v++) {
                    const size_t group = size_t(strip + v / 2) * groups() + begin / GROUP;
                    scales[v] = load(&scales_[group * STRIP + v % 2 * LANES]);
                }
            }
            // inputs behind the last one are 0, and so are their weights
            const int end = std::min(in, begin + group_size);
            for (int k = begin; k < end; k += SHARED) {
                const int64_t next = ((fetched + k / SHARED) * turn.fraction >> 16) * STRIP;
                for (int s = 0; s < STRIPS; s++) {
                    const uint32_t* line = weights[s] + STRIPS * strip_size() + next;
                    for (int lane = 0; lane < STRIP; lane += 16) __builtin_prefetch(line + lane);
                }
                // a row after the other: only then do all sums stay in registers
                for (int number = 0; number < SHARED; number++) {
                    Floats w[2 * STRIPS];
                    for (int v = 0; v < 2 * STRIPS; v++) {
                        const uint32_t* lanes = weights[v / 2] + k / SHARED * STRIP + v % 2 * LANES;
                        w[v] = unpack<TYPE>(*reinterpret_cast<const Ints*>(lanes), number);
                        if constexpr (TYPE == WeightType::INT4) w[v] *= scales[v];
                    }
                    for (int row = 0; row < ROWS; row++) {
                        const float input = x[row * x_stride + k + number];
                        for (int v = 0; v < 2 * STRIPS; v++) sums[row][v] += w[v] * input;
                    }
                }
            }
        }
        for (int row = 0; row < ROWS; row++) {
            for (int v = 0; v < 2 * STRIPS; v++) {
                const int column = strip * STRIP + v * LANES;
                float* to = y + row * y_stride + column;
                Floats value = sums[row][v];
                if constexpr (TYPE == WeightType::INT8) value *= load(&scales_[column]);
                value += load(&bias_[column]);
                store(to, add ? load(to) + value : value);
            }
        }
    }

    // the strips in pairs, as far as they and the registers go
    template <WeightType TYPE, int ROWS>
    void tiles(const float* x, int x_stride, float* y, int y_stride, Part strips, bool add,
               Turn turn) const {
        int strip = strips.begin;
        if constexpr (4 * ROWS <= MAX_SUMS) {
            for (; strip + 2 <= strips.end; strip += 2) {
                tile<TYPE, ROWS, 2>(x, x_stride, y, y_stride, strip, add, turn);
            }
        }
        for (; strip < strips.end; strip++) {
            tile<TYPE, ROWS, 1>(x, x_stride, y, y_stride, strip, add, turn);
        }
    }

    // up to ROWS rows
    template <WeightType TYPE, int ROWS>
    void block(const float* x, int x_stride, float* y, int y_stride, int rows, Part strips,
               bool add, Turn turn) const {
        if (rows == ROWS) return tiles<TYPE, ROWS>(x, x_stride, y, y_stride, strips, add, turn);
        if constexpr (ROWS > 1) {
            block<TYPE, ROWS - 1>(x, x_stride, y, y_stride, rows, strips, add, turn);
        }
    }

    template <WeightType TYPE>
    void multiply(const float* x, int x_stride, float* y, int y_stride, int rows, Part strips,
                  bool add) const {
        // as many strips as a tile has at once, whose weights stay in the cache for all blocks
        const int blocks = (rows + MAX_ROWS - 1) / MAX_ROWS;
        const int pair = blocks == 1 ? strips.size() : 4 * MAX_ROWS <= MAX_SUMS ? 2 : 1;
        for (int strip = strips.begin; strip < strips.end; strip += pair) {
            const Part few{strip, std::min(strip + pair, strips.end)};
            for (int number = 0; number < blocks; number++) {
                const Part own(rows, number, blocks);
                block<TYPE, MAX_ROWS>(x + own.begin * x_stride, x_stride, y + own.begin * y_stride,
                                      y_stride, own.size(), few, add, {number, 65536 / blocks});
            }
        }
    }

    WeightType type_ = WeightType::FLOAT32;
    std::unique_ptr<uint32_t, Free> data_;
    std::vector<float> bias_, scales_;
};
