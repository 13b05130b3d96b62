// Products whose factors are rounded to bfloat16, where the CPU multiplies pairs of them
// (AVX512_BF16): twice the products of float32 in one instruction. Sums are float32.
//
// Sizes are multiples of LANES, or rows have room for whole vectors, with zeros behind the last.
#pragma once

#include "gemm.h"

inline Pair* as_pairs(float* memory) { return reinterpret_cast<Pair*>(memory); }
inline const Pair* as_pairs(const float* memory) { return reinterpret_cast<const Pair*>(memory); }

#ifdef HAS_PAIRS

constexpr int pairs(int depth) { return (depth + 1) / 2; }
constexpr int pair_stride(int depth) { return (depth + LANES - 1) / LANES * LANES / 2; }

// A (rows, depth) -> (rows, pair_stride(depth)), to be read along
inline void round_along(const float* from, int stride, int rows, int depth, Pair* to) {
    for (int row = 0; row < rows; row++) {
        const float* x = from + int64_t(row) * stride;
        Pair* y = to + int64_t(row) * pair_stride(depth);
        int k = 0;
        for (; k + LANES < depth; k += 2 * LANES) {
            store(y + k / 2, round_neighbours(load(x + k), load(x + k + LANES)));
        }
        if (k < depth) {
            const Pairs last = round_neighbours(load(x + k), Floats{});
            std::memcpy(y + k / 2, &last, sizeof last / 2);
        }
    }
}

// the matrix (depth, columns) -> panels (pairs(depth), PANEL)
inline void pack_pairs(const float* from, int stride, int depth, int columns, Pair* to) {
    for (int first = 0; first < in_panels(columns); first += LANES) {
        Pair* panel = to + int64_t(first / PANEL * PANEL) * pairs(depth) + first % PANEL;
        for (int k = 0; k < depth; k += 2) {
            Floats upper = {}, lower = {};
            if (first < columns) {
                upper = load(from + int64_t(k) * stride + first);
                if (k + 1 < depth) lower = load(from + int64_t(k + 1) * stride + first);
            }
            store(panel + k / 2 * PANEL, round_rows(upper, lower));
        }
    }
}

// the transpose of a matrix (columns, depth) -> panels (pairs(depth), PANEL); `room` has PANEL rows
inline void pack_pairs_transposed(const float* from, int stride, int depth, int columns, Pair* to,
                                  Pair* room) {
    for (int first = 0; first < columns; first += PANEL) {
        const int count = std::min(PANEL, columns - first);
        round_along(from + int64_t(first) * stride, stride, count, depth, room);
        // a pair is moved like a float
        pack_transposed(reinterpret_cast<const float*>(room), pair_stride(depth), pairs(depth), count,
                        reinterpret_cast<float*>(to + int64_t(first) * pairs(depth)));
    }
}

// C (rows, columns) += A^T B for A (depth, rows) and B (depth, columns); `packed` has room for both
inline void add_rounded_outer_products(const float* a, int a_stride, const float* b, int b_stride,
                                       float* c, int c_stride, int rows, int columns, int depth,
                                       Pair* packed) {
    pack_pairs(b, b_stride, depth, columns, packed);
    Pair* strips = packed + int64_t(in_panels(columns)) * pairs(depth);
    pack_pairs(a, a_stride, depth, rows, strips);
    for (int row = 0; row < rows; row += PANEL) {
        multiply<Read::ACROSS>(strips + int64_t(row) * pairs(depth), PANEL, packed,
                               c + int64_t(row) * c_stride, c_stride, std::min(PANEL, rows - row),
                               columns, pairs(depth), true);
    }
}

#endif
