// Products of matrices that are small in one dimension, in one thread: C = A B, or C = S + A B for an
// S that may be C itself.
//
// B is packed into panels of PANEL columns, which lie row after row; a tile of TILE_ROWS rows and
// one panel keeps its sums in registers. A is read in place, along its rows or across them. In an
// A that is read across, a row of C belongs to a column: that is A^T.
//
// The elements of A and B are float32, or pairs of bfloat16 that are neighbours in the dimension
// that is summed over (gemm_bf16.h). C is float32.
#pragma once

#include <utility>

#include "simd.h"

// The sums of a tile fill 24 of 32 registers, or 12 of 16. With AVX-512 a panel is as wide as two
// tiles of AMX.
#if defined(__AVX512F__)
constexpr int TILE_ROWS = 12, PANEL_VECTORS = 2;
#elif defined(__aarch64__)
constexpr int TILE_ROWS = 6, PANEL_VECTORS = 4;
#else
constexpr int TILE_ROWS = 6, PANEL_VECTORS = 2;
#endif
constexpr int PANEL = PANEL_VECTORS * LANES;
constexpr int MAX_DEPTH = 352;  // rows of a panel that stay in the first cache level

constexpr int panels(int columns) { return (columns + PANEL - 1) / PANEL; }
constexpr int in_panels(int columns) { return panels(columns) * PANEL; }

// one panel of the matrix `from` (depth, columns) -> (depth, PANEL); columns behind the last are 0
inline void pack_panel(const float* from, int stride, int depth, int columns, float* to) {
    if (columns >= PANEL) {
        for (int k = 0; k < depth; k++) {
            for (int v = 0; v < PANEL_VECTORS; v++) {
                store(to + k * PANEL + v * LANES, load(from + int64_t(k) * stride + v * LANES));
            }
        }
        return;
    }
    for (int k = 0; k < depth; k++) {
        for (int j = 0; j < PANEL; j++) {
            to[k * PANEL + j] = j < columns ? from[int64_t(k) * stride + j] : 0.0f;
        }
    }
}

// B (depth, columns) into panels, whose height is more than `depth` where these are some of their rows
inline void pack(const float* from, int stride, int depth, int columns, float* to, int height) {
    for (int panel = 0; panel < panels(columns); panel++) {
        const int first = panel * PANEL;
        pack_panel(from + first, stride, depth, columns - first, to + int64_t(first) * height);
    }
}

#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define HAS_SHUFFLES 1
#endif
#endif

#ifdef HAS_SHUFFLES
// exchanges the squares of STEP lanes off the diagonal of two rows that are STEP rows apart
template <int STEP, int... LANE>
inline void exchange(Floats& upper, Floats& lower, std::integer_sequence<int, LANE...>) {
    const Floats first = upper, second = lower;
    upper = __builtin_shufflevector(first, second, (LANE & STEP ? LANES + LANE - STEP : LANE)...);
    lower = __builtin_shufflevector(first, second, (LANE & STEP ? LANES + LANE : LANE + STEP)...);
}

template <int STEP = LANES / 2>
inline void transpose(Floats* rows) {
    for (int i = 0; i < LANES; i++) {
        if (!(i & STEP)) {
            exchange<STEP>(rows[i], rows[i + STEP], std::make_integer_sequence<int, LANES>());
        }
    }
    if constexpr (STEP > 1) transpose<STEP / 2>(rows);
}
#else
inline void transpose(Floats* rows) {
    for (int i = 0; i < LANES; i++) {
        for (int j = 0; j < i; j++) {
            const float kept = rows[i][j];
            rows[i][j] = rows[j][i];
            rows[j][i] = kept;
        }
    }
}
#endif

// a square of LANES columns of `from`, one after the other, to LANES rows of a panel
inline void transpose_square(const float* from, int stride, float* to) {
    Floats rows[LANES];
    for (int i = 0; i < LANES; i++) rows[i] = load(from + int64_t(i) * stride);
    transpose(rows);
    for (int i = 0; i < LANES; i++) store(to + i * PANEL, rows[i]);
}

// the transpose of `from` (columns, depth) into panels
inline void pack_transposed(const float* from, int stride, int depth, int columns, float* to) {
    const int squares = depth / LANES * LANES;
    for (int first = 0; first < in_panels(columns); first += LANES) {
        float* rows = to + int64_t(first / PANEL * PANEL) * depth + first % PANEL;
        int k = 0;
        if (first + LANES <= columns) {
            for (; k < squares; k += LANES) {
                transpose_square(from + int64_t(first) * stride + k, stride, rows + k * PANEL);
            }
        }
        for (; k < depth; k++) {
            for (int j = 0; j < LANES; j++) {
                rows[k * PANEL + j] =
                    first + j < columns ? from[int64_t(first + j) * stride + k] : 0.0f;
            }
        }
    }
}

enum class Read { ALONG, ACROSS };

// What a product is added to; nothing where it is null. With a stride of 0 it is one row for all.
struct Addend {
    const float* first = nullptr;
    int64_t stride = 0;

    Addend at(int row, int column) const {
        return {first ? first + row * stride + column : nullptr, stride};
    }
};

// the sums over `depth` of ROWS rows and one panel
template <Read READ, int ROWS, int VECTORS, class Element>
inline void tile(const Element* a, int a_stride, const Element* b, int depth, Addend addend, float* c,
                 int c_stride) {
    Floats sums[ROWS][VECTORS];
    for (int row = 0; row < ROWS; row++) {
        for (int v = 0; v < VECTORS; v++) {
            sums[row][v] = addend.first ? load(addend.at(row, v * LANES).first) : Floats{};
        }
    }
    for (int k = 0; k < depth; k++) {
        decltype(load(b)) columns[VECTORS];
        for (int v = 0; v < VECTORS; v++) columns[v] = load(b + k * PANEL + v * LANES);
        for (int row = 0; row < ROWS; row++) {
            const Element x = READ == Read::ALONG ? a[int64_t(row) * a_stride + k]
                                                  : a[int64_t(k) * a_stride + row];
            for (int v = 0; v < VECTORS; v++) {
                sums[row][v] = multiply_add(sums[row][v], columns[v], x);
            }
        }
    }
    for (int row = 0; row < ROWS; row++) {
        for (int v = 0; v < VECTORS; v++) {
            store(c + int64_t(row) * c_stride + v * LANES, sums[row][v]);
        }
    }
}

template <Read READ, int ROWS, class Element>
inline void tile_of_width(const Element* a, int a_stride, const Element* b, int depth, Addend addend,
                          float* c, int c_stride, int columns) {
    if constexpr (PANEL_VECTORS == 4) {
        if (columns > 3 * LANES) return tile<READ, ROWS, 4>(a, a_stride, b, depth, addend, c, c_stride);
        if (columns > 2 * LANES) return tile<READ, ROWS, 3>(a, a_stride, b, depth, addend, c, c_stride);
    }
    if (columns > LANES) return tile<READ, ROWS, 2>(a, a_stride, b, depth, addend, c, c_stride);
    tile<READ, ROWS, 1>(a, a_stride, b, depth, addend, c, c_stride);
}

template <Read READ, int ROWS = TILE_ROWS, class Element>
inline void tile_of_rows(int rows, const Element* a, int a_stride, const Element* b, int depth,
                         Addend addend, float* c, int c_stride, int columns) {
    if (rows >= ROWS) {
        return tile_of_width<READ, ROWS>(a, a_stride, b, depth, addend, c, c_stride, columns);
    }
    if constexpr (ROWS > 1) {
        tile_of_rows<READ, ROWS - 1>(rows, a, a_stride, b, depth, addend, c, c_stride, columns);
    }
}

// C (rows, columns) = addend + A B. A is (rows, depth), or (depth, rows) where it is read across; B is
// packed, in panels of `panel_rows` rows. C and the addend have room for whole vectors.
template <Read READ, class Element>
inline void multiply(const Element* a, int a_stride, const Element* b, int panel_rows, Addend addend,
                     float* c, int c_stride, int rows, int columns, int depth) {
    const int pieces = (depth + MAX_DEPTH - 1) / MAX_DEPTH;
    for (int piece = 0; piece < pieces; piece++) {
        const int begin = depth * piece / pieces, end = depth * (piece + 1) / pieces;
        const Element* part = READ == Read::ALONG ? a + begin : a + int64_t(begin) * a_stride;
        if (piece > 0) addend = {c, c_stride};
        for (int first = 0; first < columns; first += PANEL) {
            const Element* panel = b + int64_t(first) * panel_rows + begin * PANEL;
            for (int row = 0; row < rows; row += TILE_ROWS) {
                const Element* own = READ == Read::ALONG ? part + int64_t(row) * a_stride : part + row;
                tile_of_rows<READ>(rows - row, own, a_stride, panel, end - begin, addend.at(row, first),
                                   c + int64_t(row) * c_stride + first, c_stride, columns - first);
            }
        }
    }
}

// the transpose of A (depth, rows) in strips of TILE_ROWS, to be read across; a strip is as long as
// `length`, which is more than `depth` where this is a part of it
inline void pack_strips(const float* from, int stride, int rows, int depth, float* to, int length) {
    for (int row = 0; row < rows; row += TILE_ROWS) {
        const int count = std::min(TILE_ROWS, rows - row);
        for (int k = 0; k < depth; k++) {
            std::copy_n(from + int64_t(k) * stride + row, count,
                        to + int64_t(row) * length + int64_t(k) * TILE_ROWS);
        }
    }
}
