// Products in the precision of a step: of float32, or of factors rounded to pairs of bfloat16.
//
// The second factor is packed in panels; the first one is read in place in float32, and rounded
// before. Both may be transposes.
#pragma once

#include "buffer.h"
#include "gemm_bf16.h"

#ifdef HAS_PAIRS
constexpr bool CAN_ROUND = true;
#else
constexpr bool CAN_ROUND = false;
#endif

// numbers of float32 that a packed factor takes at most, in either precision
constexpr int64_t packed_size(int rows, int columns) {
    return int64_t(in_panels(rows) + TILE_ROWS) * in_panels(columns);
}

// hands out the parts of a piece of memory
struct Scratch {
    float* next;
    float* take(int64_t size) { return std::exchange(next, next + size); }
};

class Matmul {
   public:
    // the first factor
    struct Left {
        const float* numbers;
        const Pair* pairs;  // null in float32
        int stride;
        bool in_strips;
    };

    explicit Matmul(bool rounds) : rounds_(rounds && CAN_ROUND) {}

    bool rounds() const { return rounds_; }

    // A (rows, depth)
    Left left(const float* a, int stride, int rows, int depth, float* memory) const {
#ifdef HAS_PAIRS
        if (rounds_) {
            round_along(a, stride, rows, depth, as_pairs(memory));
            return {nullptr, as_pairs(memory), 0, false};
        }
#endif
        return {a, nullptr, stride, false};
    }

    // the same without the rows before `row`
    Left from_row(const Left& a, int row, int depth) const {
        if (a.pairs) return {nullptr, a.pairs + int64_t(row) * panel_rows(depth), 0, false};
        return {a.numbers + int64_t(row) * a.stride, nullptr, a.stride, false};
    }

    // the transpose of A (depth, rows)
    Left left_transposed(const float* a, int stride, int rows, int depth, float* memory) const {
        return left_transposed(a, stride, rows, {0, depth, depth}, memory);
    }

    // some rows of a factor that is built piece by piece; `row` is a multiple of 32
    struct Piece {
        int row, count, depth;  // depth: of the whole factor
    };

    // these rows of A; the factor is whole when all are there
    Left left_transposed(const float* a, int stride, int rows, Piece piece, float* memory) const {
#ifdef HAS_PAIRS
        if (rounds_) {
            round_across(a, stride, rows, piece.count, as_pairs(memory) + piece.row / 2,
                         pairs(piece.depth));
            return {nullptr, as_pairs(memory), 0, false};
        }
#endif
        pack_strips(a, stride, rows, piece.count, memory + piece.row * TILE_ROWS, piece.depth);
        return {memory, nullptr, TILE_ROWS, true};
    }

    // B (depth, columns)
    void pack_right(const float* b, int stride, int depth, int columns, float* packed) const {
        pack_right(b, stride, {0, depth, depth}, columns, packed);
    }

    // these rows of B
    void pack_right(const float* b, int stride, Piece piece, int columns, float* packed) const {
        float* to = part(packed, piece.depth, piece.row, 0);
        const int height = panel_rows(piece.depth);
#ifdef HAS_PAIRS
        if (rounds_) return pack_pairs(b, stride, piece.count, columns, as_pairs(to), height);
#endif
        pack(b, stride, piece.count, columns, to, height);
    }

    // the transpose of B (columns, depth); `memory` is for PANEL rows of it
    void pack_right_transposed(const float* b, int stride, int depth, int columns, float* packed,
                               float* memory) const {
#ifdef HAS_PAIRS
        if (rounds_) {
            return pack_pairs_transposed(b, stride, depth, columns, as_pairs(packed), as_pairs(memory));
        }
#endif
        pack_transposed(b, stride, depth, columns, packed);
    }

    // where the rows from `row` on and the columns from `column` on of a packed B (depth, columns)
    // begin; the column is a multiple of PANEL, and the row one of 32
    const float* part(const float* packed, int depth, int row, int column) const {
        return packed + int64_t(column) * panel_rows(depth) + int64_t(rounds_ ? row / 2 : row) * PANEL;
    }
    float* part(float* packed, int depth, int row, int column) const {
        return const_cast<float*>(part(static_cast<const float*>(packed), depth, row, column));
    }

    // C (rows, columns) = addend + A B for all rows of a packed B. C and the addend have room for whole
    // vectors.
    void multiply(const Left& a, const float* b, float* c, int c_stride, int rows, int columns,
                  int depth, Addend addend = {}) const {
        multiply(a, b, depth, c, c_stride, rows, columns, depth, addend);
    }

    // the same for `depth` rows of a B that was packed with `packed_depth` rows
    void multiply(const Left& a, const float* b, int packed_depth, float* c, int c_stride, int rows,
                  int columns, int depth, Addend addend = {}) const {
        const int height = panel_rows(packed_depth);
#ifdef HAS_PAIRS
        if (rounds_) {
            return multiply_pairs(a.pairs, as_pairs(b), height, addend, c, c_stride, rows, columns,
                                  pairs(depth));
        }
#endif
        if (!a.in_strips) {
            return ::multiply<Read::ALONG>(a.numbers, a.stride, b, height, addend, c, c_stride, rows,
                                           columns, depth);
        }
        for (int row = 0; row < rows; row += TILE_ROWS) {
            ::multiply<Read::ACROSS>(a.numbers + int64_t(row) * depth, TILE_ROWS, b, height,
                                     addend.at(row, 0), c + int64_t(row) * c_stride, c_stride,
                                     std::min(TILE_ROWS, rows - row), columns, depth);
        }
    }

   private:
    static Pair* as_pairs(float* memory) { return reinterpret_cast<Pair*>(memory); }
    static const Pair* as_pairs(const float* memory) { return reinterpret_cast<const Pair*>(memory); }

    int panel_rows(int depth) const {
#ifdef HAS_PAIRS
        if (rounds_) return pairs(depth);
#endif
        return depth;
    }

    const bool rounds_;
};
