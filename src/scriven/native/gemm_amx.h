// Products of pairs of bfloat16 by AMX: an instruction adds the products of two tiles of 16 rows, 16
// pairs each, to 16 x 16 sums. What fills no tile is multiplied by vectors.
#pragma once

#include "amx.h"
#include "gemm.h"

#ifdef HAS_TILES

// ROWS x COLUMNS tiles of sums, of A (16 ROWS, depth) and a panel of B, depth a multiple of 16 pairs.
// `next` are the sums that come after these ones: they are often far away, such as the gradients of
// weights, and begin to come nearer here.
template <int ROWS, int COLUMNS>
inline void tiles(const Pair* a, const Pair* b, Addend addend, float* c, const float* next, int c_stride,
                  int depth) {
    const int64_t a_bytes = int64_t(depth) * sizeof(Pair), b_bytes = PANEL * sizeof(Pair);
    const int64_t c_bytes = int64_t(c_stride) * sizeof(float);
    float* below = c + int64_t(SIDE) * c_stride;
    // the numbers of tiles are part of instructions: 0 to 3 are sums, 4 and 5 of A, 6 and 7 of B
    if (addend.first) {
        const int64_t bytes = addend.stride * int64_t(sizeof(float));
        _tile_loadd(0, addend.first, bytes);
        if constexpr (COLUMNS > 1) _tile_loadd(1, addend.at(0, SIDE).first, bytes);
        if constexpr (ROWS > 1) _tile_loadd(2, addend.at(SIDE, 0).first, bytes);
        if constexpr (ROWS > 1 && COLUMNS > 1) _tile_loadd(3, addend.at(SIDE, SIDE).first, bytes);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    const int fetched = (2 * SIDE * TILE_PAIRS + depth - 1) / depth;  // rows for a turn of the loop
    for (int k = 0; k < depth; k += TILE_PAIRS) {
        for (int row = 0; row < fetched; row++) {
            __builtin_prefetch(next, 1);
            __builtin_prefetch(next + SIDE, 1);
            next += c_stride;
        }
        _tile_loadd(4, a + k, a_bytes);
        _tile_loadd(6, b + k * PANEL, b_bytes);
        _tile_dpbf16ps(0, 4, 6);
        if constexpr (COLUMNS > 1) {
            _tile_loadd(7, b + k * PANEL + SIDE, b_bytes);
            _tile_dpbf16ps(1, 4, 7);
        }
        if constexpr (ROWS > 1) {
            _tile_loadd(5, a + int64_t(SIDE) * depth + k, a_bytes);
            _tile_dpbf16ps(2, 5, 6);
        }
        if constexpr (ROWS > 1 && COLUMNS > 1) _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, c, c_bytes);
    if constexpr (COLUMNS > 1) _tile_stored(1, c + SIDE, c_bytes);
    if constexpr (ROWS > 1) _tile_stored(2, below, c_bytes);
    if constexpr (ROWS > 1 && COLUMNS > 1) _tile_stored(3, below + SIDE, c_bytes);
}

template <int ROWS>
inline void tiles_of_width(const Pair* a, const Pair* b, Addend addend, float* c, const float* next,
                           int c_stride, int columns, int depth) {
    if (columns > SIDE) return tiles<ROWS, 2>(a, b, addend, c, next, c_stride, depth);
    tiles<ROWS, 1>(a, b, addend, c, next, c_stride, depth);
}

// C (rows, columns) = addend + A B, for A (rows, depth), and B in panels of `panel_rows` rows
inline void multiply_tiles(const Pair* a, const Pair* b, int panel_rows, Addend addend, float* c,
                           int c_stride, int rows, int columns, int depth) {
    const int whole = rows / SIDE * SIDE;
    for (int row = 0; row < whole; row += 2 * SIDE) {
        const Pair* own = a + int64_t(row) * depth;
        for (int first = 0; first < columns; first += 2 * SIDE) {
            const Pair* panel = b + int64_t(first / PANEL * PANEL) * panel_rows + first % PANEL;
            float* to = c + int64_t(row) * c_stride + first;
            const bool is_last = first + 2 * SIDE >= columns;
            const float* next = is_last ? c + int64_t(row + 2 * SIDE) * c_stride : to + 2 * SIDE;
            if (whole - row > SIDE) {
                tiles_of_width<2>(own, panel, addend.at(row, first), to, next, c_stride, columns - first,
                                  depth);
            } else {
                tiles_of_width<1>(own, panel, addend.at(row, first), to, next, c_stride, columns - first,
                                  depth);
            }
        }
    }
    if (whole < rows) {
        multiply<Read::ALONG>(a + int64_t(whole) * depth, depth, b, panel_rows, addend.at(whole, 0),
                              c + int64_t(whole) * c_stride, c_stride, rows - whole, columns, depth);
    }
}

#endif
