// Updates of matrices by Muon, each matrix by one thread while it lies in a cache: as
// train/optim/muon.py, whose Python is the reference.
#include <atomic>
#include <memory>
#include <vector>

#include "gemm.h"
#include "thread_pool.h"

struct MuonMatrix {
    float *weight, *momentum;
    const float* gradient;
};

struct MuonGroup {
    const MuonMatrix* matrices;
    int count, rows, columns, threads, iterations;
    float momentum, decay, step;  // weight = weight * decay + step * update
    float a, b, c;                // coefficients of an iteration
};

namespace {

// Buffers for matrices (rows, columns) with rows <= columns.
class NewtonSchulz {
   public:
    NewtonSchulz(int rows, int columns)
        : rows_(rows), columns_(columns), stride_(in_panels(columns)), square_(in_panels(rows)) {
        const int64_t packed = std::max(int64_t(square_) * columns, int64_t(stride_) * rows);
        x_ = memory_.get(2 * int64_t(rows) * stride_ + 2 * int64_t(rows) * square_ + packed);
        next_ = x_ + int64_t(rows) * stride_;
        gram_ = next_ + int64_t(rows) * stride_;
        factor_ = gram_ + int64_t(rows) * square_;
        packed_ = factor_ + int64_t(rows) * square_;
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
            pack_transposed(x_, stride_, columns_, rows_, packed_);
            multiply_lower(x_, stride_, columns_, gram_);
            pack(gram_, square_, rows_, rows_, packed_);
            multiply_lower(gram_, square_, rows_, factor_);
            for (int64_t i = 0; i < int64_t(rows_) * square_; i++) {
                factor_[i] = b * gram_[i] + c * factor_[i];
            }
            for (int i = 0; i < rows_; i++) factor_[int64_t(i) * square_ + i] += a;
            pack(x_, stride_, rows_, columns_, packed_);
            multiply<Read::ALONG>(factor_, square_, packed_, next_, stride_, rows_, columns_, rows_,
                                  false);
            std::swap(x_, next_);
        }
    }

   private:
    static void scale(float* x, int64_t size, float factor) {
        for (int64_t i = 0; i < size; i++) x[i] *= factor;
    }

    // a symmetric product: what is below the diagonal, and then its mirror image
    void multiply_lower(const float* x, int x_stride, int depth, float* to) const {
        for (int first = 0; first < rows_; first += PANEL) {
            multiply<Read::ALONG>(x + int64_t(first) * x_stride, x_stride,
                                  packed_ + int64_t(first) * depth,
                                  to + int64_t(first) * square_ + first, square_, rows_ - first,
                                  std::min(PANEL, rows_ - first), depth, false);
        }
        for (int i = 0; i < rows_; i++) {
            for (int j = i + 1; j < rows_; j++) to[int64_t(i) * square_ + j] = to[int64_t(j) * square_ + i];
        }
    }

    const int rows_, columns_, stride_, square_;
    Buffer memory_;
    float *x_, *next_, *gram_, *factor_, *packed_;
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
    try {
        const int threads = std::max(1, std::min(group->threads, group->count));
        const int rows = std::min(group->rows, group->columns);
        const int columns = std::max(group->rows, group->columns);
        std::vector<std::unique_ptr<NewtonSchulz>> buffers;
        for (int n = 0; n < threads; n++) {
            buffers.push_back(std::make_unique<NewtonSchulz>(rows, columns));
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
