// Products whose factors are rounded to bfloat16, where the CPU multiplies pairs of them: by vectors
// (AVX512_BF16), or by tiles (AMX, gemm_amx.h). Sums are float32.
//
// The dimension that is summed over is filled up with zeros to a multiple of DEPTH. A row of a factor
// has room for whole vectors, with zeros behind the last number.
#pragma once

#include "gemm_amx.h"

#ifdef HAS_PAIRS

#ifdef HAS_TILES
constexpr int DEPTH = 2 * TILE_PAIRS;
#else
constexpr int DEPTH = LANES;
#endif

constexpr int pairs(int depth) { return (depth + DEPTH - 1) / DEPTH * DEPTH / 2; }

// C (rows, columns) = addend + A B, for A (rows, depth), and B in panels of `panel_rows` rows; `depth`
// is a number of pairs
inline void multiply_pairs(const Pair* a, const Pair* b, int panel_rows, Addend addend, float* c,
                           int c_stride, int rows, int columns, int depth) {
#ifdef HAS_TILES
    if (Tiles::held()) {
        return multiply_tiles(a, b, panel_rows, addend, c, c_stride, rows, columns, depth);
    }
#endif
    multiply<Read::ALONG>(a, depth, b, panel_rows, addend, c, c_stride, rows, columns, depth);
}

// writes the first `count` of LANES pairs; there may be no room for the others
inline void store_first(Pair* to, Pairs values, int count) {
    if (count >= LANES) return store(to, values);
    std::memcpy(to, &values, sizeof(Pair) * count);
}

// A (rows, depth) -> (rows, pairs(depth))
inline void round_along(const float* from, int stride, int rows, int depth, Pair* to) {
    const int room = pairs(depth);
    for (int row = 0; row < rows; row++) {
        const float* x = from + int64_t(row) * stride;
        Pair* y = to + int64_t(row) * room;
        for (int k = 0; k < depth; k += 2 * LANES) {
            const Floats second = k + LANES < depth ? load(x + k + LANES) : Floats{};
            store_first(y + k / 2, round_neighbours(load(x + k), second), room - k / 2);
        }
    }
}

// LANES columns of the rows `k` and `k` + 1 of a matrix of `depth` rows
inline Pairs pair_of_rows(const float* from, int stride, int k, int depth) {
    const Floats upper = k < depth ? load(from + int64_t(k) * stride) : Floats{};
    const Floats lower = k + 1 < depth ? load(from + int64_t(k + 1) * stride) : Floats{};
    return round_rows(upper, lower);
}

// the transpose of a matrix (depth, rows) -> (rows, pairs(depth)), each row the beginning of one of
// `room` pairs; there is room for whole vectors of rows
inline void round_across(const float* from, int stride, int rows, int depth, Pair* to, int room) {
    for (int row = 0; row < rows; row += LANES) {
        for (int k = 0; k < pairs(depth); k += LANES) {
            Pairs square[LANES];
            for (int i = 0; i < LANES; i++) {
                square[i] = pair_of_rows(from + row, stride, 2 * (k + i), depth);
            }
            transpose(reinterpret_cast<Floats*>(square));  // a pair is moved like a float
            for (int i = 0; i < LANES; i++) {
                store_first(to + int64_t(row + i) * room + k, square[i], pairs(depth) - k);
            }
        }
    }
}

// the matrix (depth, columns) -> panels (pairs(depth), PANEL), each the beginning of one of `height`
// rows
inline void pack_pairs(const float* from, int stride, int depth, int columns, Pair* to, int height) {
    for (int first = 0; first < in_panels(columns); first += LANES) {
        Pair* panel = to + int64_t(first / PANEL * PANEL) * height + first % PANEL;
        const int seen = first < columns ? depth : 0;
        for (int k = 0; k < pairs(depth); k++) {
            store(panel + k * PANEL, pair_of_rows(from + first, stride, 2 * k, seen));
        }
    }
}

// the transpose of a matrix (columns, depth) -> panels (pairs(depth), PANEL); `room` has PANEL rows
inline void pack_pairs_transposed(const float* from, int stride, int depth, int columns, Pair* to,
                                  Pair* room) {
    for (int first = 0; first < columns; first += PANEL) {
        const int count = std::min(PANEL, columns - first);
        round_along(from + int64_t(first) * stride, stride, count, depth, room);
        pack_transposed(reinterpret_cast<const float*>(room), pairs(depth), pairs(depth), count,
                        reinterpret_cast<float*>(to + int64_t(first) * pairs(depth)));
    }
}

#endif
