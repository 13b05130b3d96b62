// Updates of matrices by Muon, each matrix by one thread while it lies in a cache: as
// train/optim/muon.py, whose Python is the reference. The factors of products are rounded to bfloat16
// where the run computes in it; sums and what lies between products are float32.
#include <atomic>
#include <memory>
#include <vector>

#include "gemm_bf16.h"
#include "thread_pool.h"

struct MuonMatrix {
    float *weight, *momentum;
    const float* gradient;
};

struct MuonGroup {
    const MuonMatrix* matrices;
    int count, rows, columns, threads, iterations;
    int bfloat16;                 // whether the factors of products are rounded to it
    float momentum, decay, step;  // weight = weight * decay + step * update
    float a, b, c;                // coefficients of an iteration
};

namespace {

// Buffers for matrices (rows, columns) with rows <= columns.
class NewtonSchulz {
   public:
    NewtonSchulz(int rows, int columns, bool rounds)
        : rows_(rows),
          columns_(columns),
          stride_(in_panels(columns)),
          square_(in_panels(rows)),
          rounds_(rounds) {
        const int64_t packed = std::max(int64_t(square_) * columns, int64_t(stride_) * rows);
        const int64_t rounded = rounds ? int64_t(std::max(rows, PANEL)) * stride_ : 0;
        const int64_t size = int64_t(rows) * stride_ + 2 * int64_t(rows) * square_;
        x_ = memory_.get(size + packed + rounded);
        std::fill_n(x_, size, 0.0f);  // also behind the last column
        gram_ = x_ + int64_t(rows) * stride_;
        factor_ = gram_ + int64_t(rows) * square_;
        packed_ = factor_ + int64_t(rows) * square_;
        rounded_ = packed_ + packed;
    }

    float* row(int i) { return x_ + int64_t(i) * stride_; }

    // x / |x|, and then x <- a x + (b G + c G^2) x with G = x x^T: the singular values go to one
    void run(int iterations, float a, float b, float c) {
        double squares = 0;
        for (int i = 0; i < rows_; i++) {
            float of_row = 0;
            for (int j = 0; j < columns_; j++) of_row += row(i)[j] * row(i)[j];
            squares += of_row;
        }
        scale(x_, int64_t(rows_) * stride_, float(1 / (std::sqrt(squares) + 1e-7)));
        for (int n = 0; n < iterations; n++) {
            round(x_, int64_t(rows_) * stride_);
            set_factors(x_, stride_, x_, stride_, columns_, rows_, true);
            multiply_lower(x_, stride_, columns_, gram_);
            round(gram_, int64_t(rows_) * square_);
            set_factors(gram_, square_, gram_, square_, rows_, rows_, false);
            multiply_lower(gram_, square_, rows_, factor_);
            for (int64_t i = 0; i < int64_t(rows_) * square_; i++) {
                factor_[i] = b * gram_[i] + c * factor_[i];
            }
            set_factors(factor_, square_, x_, stride_, rows_, columns_, false);
            scale(x_, int64_t(rows_) * stride_, a);
            multiply_part(factor_, square_, 0, 0, columns_, rows_, x_, stride_, true);
        }
    }

   private:
    static void scale(float* x, int64_t size, float factor) {
        for (int64_t i = 0; i < size; i++) x[i] *= factor;
    }

    // as the terms of an iteration cancel, they have to see the same x and G
    void round(float* x, int64_t size) const {
        for (int64_t i = 0; rounds_ && i < size; i++) {
            uint16_t rounded;
            convert(x[i], &rounded);
            x[i] = to_float(rounded);
        }
    }

    // A (rows_, depth) and B (depth, columns) for products of them; B may be a transpose
    void set_factors(const float* a, int a_stride, const float* b, int b_stride, int depth,
                     int columns, bool transposed) {
#ifdef HAS_PAIRS
        if (rounds_) {
            Pair *packed = as_pairs(packed_), *rounded = as_pairs(rounded_);
            if (transposed) {
                pack_pairs_transposed(b, b_stride, depth, columns, packed, rounded);
            } else {
                pack_pairs(b, b_stride, depth, columns, packed);
            }
            return round_along(a, a_stride, rows_, depth, rounded);
        }
#endif
        if (transposed) return pack_transposed(b, b_stride, depth, columns, packed_);
        pack(b, b_stride, depth, columns, packed_);
    }

    // the rows of A from `row` on, by `columns` columns of B from `column` on
    void multiply_part(const float* a, int a_stride, int row, int column, int columns, int depth,
                       float* to, int to_stride, bool add) const {
#ifdef HAS_PAIRS
        if (rounds_) {
            const int stride = pair_stride(depth);
            return multiply<Read::ALONG>(as_pairs(rounded_) + int64_t(row) * stride, stride,
                                         as_pairs(packed_) + int64_t(column) * pairs(depth), to,
                                         to_stride, rows_ - row, columns, pairs(depth), add);
        }
#endif
        multiply<Read::ALONG>(a + int64_t(row) * a_stride, a_stride, packed_ + int64_t(column) * depth,
                              to, to_stride, rows_ - row, columns, depth, add);
    }

    // a symmetric product: what is below the diagonal, and then its mirror image
    void multiply_lower(const float* a, int a_stride, int depth, float* to) const {
        for (int first = 0; first < rows_; first += PANEL) {
            multiply_part(a, a_stride, first, first, std::min(PANEL, rows_ - first), depth,
                          to + int64_t(first) * square_ + first, square_, false);
        }
        for (int i = 0; i < rows_; i++) {
            for (int j = i + 1; j < rows_; j++) to[int64_t(i) * square_ + j] = to[int64_t(j) * square_ + i];
        }
    }

    const int rows_, columns_, stride_, square_;
    const bool rounds_;
    Buffer memory_;
    float *x_, *gram_, *factor_, *packed_, *rounded_;
};

// calls function(place in the matrix, place in x) for all elements, in squares that fit into lines
// of the cache in both
template <class Function>
void each_element(const MuonGroup& g, NewtonSchulz& x, const Function& function) {
    constexpr int SQUARE = 16;
    const bool tall = g.rows > g.columns;
    for (int top = 0; top < g.rows; top += SQUARE) {
        for (int left = 0; left < g.columns; left += SQUARE) {
            for (int i = top; i < std::min(top + SQUARE, g.rows); i++) {
                for (int j = left; j < std::min(left + SQUARE, g.columns); j++) {
                    function(int64_t(i) * g.columns + j, tall ? x.row(j) + i : x.row(i) + j);
                }
            }
        }
    }
}

void update(const MuonMatrix& m, const MuonGroup& g, NewtonSchulz& x) {
    each_element(g, x, [&](int64_t at, float* to) {
        m.momentum[at] += (1 - g.momentum) * (m.gradient[at] - m.momentum[at]);
        *to = m.gradient[at] + g.momentum * (m.momentum[at] - m.gradient[at]);
    });
    x.run(g.iterations, g.a, g.b, g.c);
    each_element(g, x, [&](int64_t at, const float* from) {
        m.weight[at] = m.weight[at] * g.decay + g.step * *from;
    });
}

}  // namespace

extern "C" int muon_step(const MuonGroup* group) {
#ifndef HAS_PAIRS
    if (group->bfloat16) return 1;
#endif
    try {
        const int threads = std::max(1, std::min(group->threads, group->count));
        const int rows = std::min(group->rows, group->columns);
        const int columns = std::max(group->rows, group->columns);
        std::vector<std::unique_ptr<NewtonSchulz>> buffers;
        for (int n = 0; n < threads; n++) {
            const bool rounds = group->bfloat16;
            buffers.push_back(std::make_unique<NewtonSchulz>(rows, columns, rounds));
        }
        ThreadPool& pool = ThreadPool::of_process();
        const std::lock_guard<std::mutex> held(pool.in_use());
        std::atomic<int> next{0};
        pool.run(threads, [&](int thread) {
            for (int n = next++; n < group->count; n = next++) {
                update(group->matrices[n], *group, *buffers[thread]);
            }
        });
        return 0;
    } catch (...) {  // not enough memory
        return 1;
    }
}
