// Linear layers whose weights are read once for all rows: y = x W^T + b.
//
// A tile multiplies one or two strips of weights (packed_weights.h) with a few rows and keeps its sums
// in registers. Each sum adds the inputs in their order, so that a row's result does not depend on
// how many rows there are.
//
// Sums are float32. Inputs are float32 too, or rounded to the weights' precision where the CPU
// multiplies such numbers directly (rounded_inputs.h), bfloat16 also by AMX (linear_amx.h).
#pragma once

#include "linear_amx.h"
#include "packed_weights.h"

// a part [begin, end) of `count` things for each thread
struct Part {
    int begin, end;
    Part(int from, int to) : begin(from), end(to) {}
    Part(int count, int thread, int threads)
        : begin(static_cast<int64_t>(count) * thread / threads),
          end(static_cast<int64_t>(count) * (thread + 1) / threads) {}
    int size() const { return end - begin; }
};

// which of the blocks of rows
struct Turn {
    int number, blocks;
};

class Linear : public PackedWeights {
   public:
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
    // one or two strips, STRIPS, as a tile reads them: a chunk of inputs after the other
    template <WeightType KIND, int STRIPS>
    struct TileWeights {
        static constexpr WeightType TYPE = KIND;
        static constexpr int SHARED = per_lane(TYPE), VECTORS = 2 * STRIPS;
        static constexpr int CHUNK = std::min(8 * SHARED, GROUP);

        const uint32_t* weights;  // of the first strip
        const float* group_scales;
        size_t size;  // of a strip, in lanes
        int groups;
        // each block of rows fetches its part of the strips that come next
        const uint32_t* next;
        int lines_per_chunk;  // in 16.16 fixed point

        TileWeights(const Linear& of, int strip, Turn turn)
            : weights(of.data_.get() + strip * of.strip_size()),
              group_scales(of.scales_.data() + size_t(strip) * of.groups() * STRIP),
              size(of.strip_size()),
              groups(of.groups()),
              next(weights + STRIPS * size + size / STRIP * turn.number / turn.blocks * STRIP),
              lines_per_chunk((CHUNK / SHARED << 16) / turn.blocks) {}

        // of the inputs from k on that share a lane
        Ints lanes(int k, int v) const {
            const uint32_t* from = weights + v / 2 * size + k / SHARED * STRIP + v % 2 * LANES;
            return *reinterpret_cast<const Ints*>(from);
        }

        // One row alone waits for its weights, which the hardware fetches in their order. Inlined,
        // as GCC takes a function that only prefetches for one that does nothing.
        template <int ROWS>
        [[gnu::always_inline]] void fetch(int chunk) const {
            if (ROWS == 1) return;
            const int64_t begin = int64_t(chunk) * lines_per_chunk >> 16;
            const int64_t end = int64_t(chunk + 1) * lines_per_chunk >> 16;
            for (int64_t line = begin; line < end; line++) {
                for (int s = 0; s < STRIPS; s++) {
                    const uint32_t* from = next + s * size + line * STRIP;
                    for (int lane = 0; lane < STRIP; lane += 16) __builtin_prefetch(from + lane);
                }
            }
        }

        // of the weights of a group of inputs
        Floats scales(int group, int v) const {
            return load(group_scales + (v / 2 * groups + group) * STRIP + v % 2 * LANES);
        }
    };

    // Adds the products of the rows from `first` on. One row after the other: only then do all sums
    // stay in registers. Inputs behind the last one are 0, and so are their weights.
    template <class Weights, int ROWS>
    void add_products(const Weights& weights, const FloatRows& x, int first,
                      Floats (&sums)[ROWS][Weights::VECTORS]) const {
        constexpr int CHUNK = Weights::CHUNK, VECTORS = Weights::VECTORS;
        constexpr bool HAS_SCALES = has_scales(Weights::TYPE);
        const float* rows[ROWS];
        for (int row = 0; row < ROWS; row++) rows[row] = x[first + row];
        for (int begin = 0, count = in; begin < count; begin += CHUNK) {
            weights.template fetch<ROWS>(begin / CHUNK);
            Floats scales[VECTORS];
            for (int v = 0; HAS_SCALES && v < VECTORS; v++) {
                scales[v] = weights.scales(begin / GROUP, v);
            }
            const int end = std::min(count, begin + CHUNK);
            for (int k = begin; k < end; k += Weights::SHARED) {
                for (int number = 0; number < Weights::SHARED; number++) {
                    Floats w[VECTORS];
                    for (int v = 0; v < VECTORS; v++) {
                        w[v] = unpack<Weights::TYPE>(weights.lanes(k, v), number);
                        if constexpr (HAS_SCALES) w[v] *= scales[v];
                    }
                    for (int row = 0; row < ROWS; row++) {
                        const float input = rows[row][k + number];
                        for (int v = 0; v < VECTORS; v++) sums[row][v] += w[v] * input;
                    }
                }
            }
        }
    }

#ifdef HAS_PAIRS
    template <class Weights, int ROWS>
    void add_products(const Weights& weights, const PairRows& x, int first,
                      Floats (&sums)[ROWS][Weights::VECTORS]) const {
        constexpr int CHUNK = Weights::CHUNK, VECTORS = Weights::VECTORS;
#ifdef HAS_TILES
        if (ROWS == 1 && uses_tiles()) return add_in_tile_order(weights, x[first], sums[0]);
#endif
        const Pair* rows[ROWS];
        for (int row = 0; row < ROWS; row++) rows[row] = x[first + row];
        for (int begin = 0, count = in; begin < count; begin += CHUNK) {
            weights.template fetch<ROWS>(begin / CHUNK);
            const int end = std::min(count, begin + CHUNK);
            for (int k = begin; k < end; k += 2) {
                Pairs w[VECTORS];
                for (int v = 0; v < VECTORS; v++) w[v] = reinterpret_cast<Pairs>(weights.lanes(k, v));
                for (int row = 0; row < ROWS; row++) {
                    const Pair input = rows[row][k / 2];
                    for (int v = 0; v < VECTORS; v++) {
                        sums[row][v] = multiply_add(sums[row][v], w[v], input);
                    }
                }
            }
        }
    }
#endif

#ifdef HAS_TILES
    bool uses_tiles() const { return in % (2 * TILE_PAIRS) == 0 && Tiles::held(); }

    // whether there are too many weights to be in the second cache level from the last pass
    bool is_far() const { return int64_t(in) * out > 1 << 17; }

    // The products of one row with weights that are far, which vectors wait less for than tiles do.
    // Products are exact, and sums are made in the order of a tile: the result is the same to the last
    // bit.
    template <class Weights>
    void add_in_tile_order(const Weights& weights, const Pair* x,
                           Floats (&sums)[Weights::VECTORS]) const {
        constexpr WeightType TYPE = Weights::TYPE;
        for (int begin = 0; begin < in; begin += 2 * TILE_PAIRS) {
            Floats even[Weights::VECTORS] = {}, odd[Weights::VECTORS] = {};
            for (int k = begin; k < begin + 2 * TILE_PAIRS; k += 2) {
                const Ints pair = Ints{} + int(x[k / 2]);
                for (int v = 0; v < Weights::VECTORS; v++) {
                    const Ints lanes = weights.lanes(k, v);
                    even[v] += unpack<TYPE>(lanes, 0) * unpack<TYPE>(pair, 0);
                    odd[v] += unpack<TYPE>(lanes, 1) * unpack<TYPE>(pair, 1);
                }
            }
            for (int v = 0; v < Weights::VECTORS; v++) sums[v] += even[v] + odd[v];
        }
    }
#endif

#ifdef HAS_BYTES
    // The sum of a group is exact, in integers. Weights may be stored with an offset, so that none is
    // negative: the offset times the sum of the inputs is taken off.
    template <class Weights, int ROWS>
    void add_products(const Weights& weights, const ByteRows& x, int first,
                      Floats (&sums)[ROWS][Weights::VECTORS]) const {
        constexpr bool IS_INT4 = Weights::TYPE == WeightType::INT4;
        for (int group = 0; group < groups(); group++) {
            const int begin = group * GROUP;
            weights.template fetch<ROWS>(group);
            for (int row = 0; row < ROWS; row++) {
                const int offset = (IS_INT4 ? INT4_OFFSET : BYTE_OFFSET) * x.total(first + row, group);
                Ints totals[Weights::VECTORS];
                for (Ints& total : totals) total = Ints{} - offset;
                for (int k = begin; k < begin + GROUP; k += Weights::SHARED) {
                    const int32_t inputs = x.at(first + row, k);
                    for (int v = 0; v < Weights::VECTORS; v++) {
                        const Ints lanes = weights.lanes(k, v);
                        if constexpr (IS_INT4) {
                            const int32_t next = x.at(first + row, k + 4);
                            totals[v] = dot_bytes(totals[v], lanes & 0x0f0f0f0f, inputs);
                            totals[v] = dot_bytes(totals[v], lanes >> 4 & 0x0f0f0f0f, next);
                        } else {
                            totals[v] = dot_bytes(totals[v], lanes, inputs);
                        }
                    }
                }
                for (int v = 0; v < Weights::VECTORS; v++) {
                    const Floats total = __builtin_convertvector(totals[v], Floats);
                    const float scale = x.scale(first + row, group);
                    sums[row][v] += total * (weights.scales(group, v) * scale);
                }
            }
        }
    }
#endif

    // x: its rows from `first` on; y: the first of them
    template <WeightType TYPE, int ROWS, int STRIPS>
    void tile(const InputsOf<TYPE>& x, int first, float* y, int y_stride, int strip, bool add,
              Turn turn) const {
        Floats sums[ROWS][2 * STRIPS] = {};
        add_products(TileWeights<TYPE, STRIPS>(*this, strip, turn), x, first, sums);
        for (int row = 0; row < ROWS; row++) {
            for (int v = 0; v < 2 * STRIPS; v++) {
                const int column = strip * STRIP + v * LANES;
                store_output(sums[row][v], column, y + row * y_stride + column, add);
            }
        }
    }

    // the strips in pairs, as far as they and the registers go
    template <WeightType TYPE, int ROWS>
    void tiles(const InputsOf<TYPE>& x, int first, float* y, int y_stride, Part strips, bool add,
               Turn turn) const {
        int strip = strips.begin;
        if constexpr (4 * ROWS <= MAX_SUMS) {
            for (; strip + 2 <= strips.end; strip += 2) {
                tile<TYPE, ROWS, 2>(x, first, y, y_stride, strip, add, turn);
            }
        }
        for (; strip < strips.end; strip++) {
            tile<TYPE, ROWS, 1>(x, first, y, y_stride, strip, add, turn);
        }
    }

    // up to ROWS rows
    template <WeightType TYPE, int ROWS>
    void block(const InputsOf<TYPE>& x, Part rows, float* y, int y_stride, Part strips, bool add,
               Turn turn) const {
        if (rows.size() == ROWS) {
            return tiles<TYPE, ROWS>(x, rows.begin, y, y_stride, strips, add, turn);
        }
        if constexpr (ROWS > 1) block<TYPE, ROWS - 1>(x, rows, y, y_stride, strips, add, turn);
    }

    template <WeightType TYPE>
    void multiply(const float* x, int x_stride, float* y, int y_stride, int rows, Part strips,
                  bool add) const {
        static thread_local InputsOf<TYPE> inputs;
        inputs.round(x, x_stride, rows, in);
#ifdef HAS_TILES
        if constexpr (TYPE == WeightType::BFLOAT16) {
            if (uses_tiles() && (rows > 1 || !is_far())) {
                return multiply_tiles(inputs, y, y_stride, rows, strips, add);
            }
        }
#endif
        // as many strips as a tile has at once, whose weights stay in the cache for all blocks
        const int blocks = (rows + MAX_ROWS - 1) / MAX_ROWS;
        const int pair = blocks == 1 ? strips.size() : 4 * MAX_ROWS <= MAX_SUMS ? 2 : 1;
        for (int strip = strips.begin; strip < strips.end; strip += pair) {
            const Part few{strip, std::min(strip + pair, strips.end)};
            for (int number = 0; number < blocks; number++) {
                const Part own(rows, number, blocks);
                block<TYPE, MAX_ROWS>(inputs, own, y + own.begin * y_stride, y_stride, few, add,
                                      {number, blocks});
            }
        }
    }

#ifdef HAS_TILES
    // The same by AMX, for more than one row.
    void multiply_tiles(const PairRows& x, float* y, int y_stride, int rows, Part strips,
                        bool add) const {
        const int most = 2 * SIDE, blocks = (rows + most - 1) / most;
        const int together = rows > SIDE ? 1 : 2;  // strips: either way they need four tiles of sums
        for (int strip = strips.begin; strip < strips.end; strip += together) {
            const int count = std::min(together, strips.end - strip);
            const uint32_t* weights = data_.get() + strip * strip_size();
            for (int number = 0; number < blocks; number++) {
                const Part own(rows, number, blocks);
                Tiles::shape(own.size());
                TileSums sums;
                if (own.size() > SIDE) {
                    sum_strip(x[own.begin], x[own.begin + SIDE], weights, in / 2, sums);
                } else {
                    const uint32_t* second = weights + (count > 1 ? strip_size() : 0);
                    sum_strips(x[own.begin], weights, second, in / 2, sums);
                }
                for (int n = 0; n < own.size(); n++) {
                    float* to = y + int64_t(own.begin + n) * y_stride + strip * STRIP;
                    for (int v = 0; v < 2 * count; v++) {
                        const float* from = sums.tiles[n / SIDE * 2 + v] + n % SIDE * SIDE;
                        store_output(load(from), strip * STRIP + v * LANES, to + v * LANES, add);
                    }
                }
            }
        }
    }
#endif

    // sums of LANES columns, with their bias, become an output or are added to it
    void store_output(Floats value, int column, float* to, bool add) const {
        value += load(&bias_[column]);
        store(to, add ? load(to) + value : value);
    }
};
