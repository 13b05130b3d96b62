// Updates of matrices by Muon, each matrix by one thread while it lies in a cache: as
// train/optim/muon.py, whose Python is the reference. The factors of products are rounded to bfloat16
// where the run computes in it; sums and what lies between products are float32.
#include <atomic>
#include <cstring>
#include <utility>
#include <vector>

#include "matmul.h"
#include "thread_pool.h"
#include "training_layers.h"

struct MuonMatrix {
    float *weight, *momentum;
    const float* gradient;
};

struct MuonGroup {
    const MuonMatrix* matrices;
    int count, rows, columns, threads, iterations;
    int bfloat16;                 // whether the factors of products are rounded to it
    float momentum, decay, step;  // weight = weight * decay + step * update
    const float* coefficients;    // a, b and c of each iteration
};

namespace {

// A matrix x (rows, columns) with rows <= columns, in strips of STRIP columns: a pass over it reads and
// writes each strip once, while it lies in a cache.
class NewtonSchulz {
   public:
    NewtonSchulz(int rows, int columns, bool rounds, Buffer& memory)
        : rows_(rows), columns_(columns), square_(in_panels(rows)), matmul_(rounds) {
        const int64_t strip = int64_t(rows) * STRIP, strips = (columns + STRIP - 1) / STRIP;
        const int64_t packed = packed_size(std::max(rows, STRIP), std::max(rows, STRIP));
        const int64_t square = int64_t(rows) * square_;
        x_ = memory.get(strips * strip + 3 * square + 3 * packed);
        gram_ = x_ + strips * strip;
        std::fill_n(gram_ - strip, strip + 3 * square, 0.0f);  // also behind the last column
        next_gram_ = gram_ + square;
        factor_ = next_gram_ + square;
        left_ = factor_ + square;
        packed_factor_ = left_ + packed;
        right_ = packed_factor_ + packed;
    }

    // where an element is; those behind it in its row follow up to the end of a strip
    float* at(int row, int column) {
        return x_ + (int64_t(column / STRIP) * rows_ + row) * STRIP + column % STRIP;
    }

    // x / |x|, and then x <- a x + (b G + c G^2) x with G = x x^T: the singular values go to one
    void run(int iterations, const float* coefficients) {
        // 1. the norm, and G
        double squares = 0;
        each_strip([&](float* strip, int) {
            for (int i = 0; i < rows_; i++) squares += dot(strip + i * STRIP, strip + i * STRIP, STRIP);
        });
        each_strip([&](float* strip, int columns) {
            scale(strip, int64_t(rows_) * STRIP, float(1 / (std::sqrt(squares) + 1e-7)));
            add_to_gram(strip, columns);
        });
        for (int n = 0; n < iterations; n++) {
            const float a = coefficients[3 * n], b = coefficients[3 * n + 1];
            const float c = coefficients[3 * n + 2];
            // 2. b G + c G^2
            const int64_t square = int64_t(rows_) * square_;
            std::swap(gram_, next_gram_);
            mirror(gram_);
            round(gram_, square);
            matmul_.pack_right(gram_, square_, rows_, rows_, right_);
            add_lower(gram_, square_, rows_, factor_, false);
            mirror(factor_);
            for (int64_t i = 0; i < square; i++) factor_[i] = b * gram_[i] + c * factor_[i];
            // 3. x, and of each strip what it adds to the next G
            const Matmul::Left factor = matmul_.left(factor_, square_, rows_, rows_, packed_factor_);
            std::fill_n(next_gram_, square, 0.0f);
            each_strip([&](float* strip, int columns) {
                matmul_.pack_right(strip, STRIP, rows_, columns, right_);
                scale(strip, int64_t(rows_) * STRIP, a);
                matmul_.multiply(factor, right_, strip, STRIP, rows_, columns, rows_,
                                 Addend{strip, STRIP});
                if (n + 1 < iterations) add_to_gram(strip, columns);
            });
        }
    }

   private:
    static constexpr int STRIP = 128;

    template <class Function>
    void each_strip(const Function& function) {
        for (int first = 0; first < columns_; first += STRIP) {
            function(x_ + int64_t(first) * rows_, std::min(STRIP, columns_ - first));
        }
    }

    static void scale(float* x, int64_t size, float factor) {
        for (int64_t i = 0; i < size; i++) x[i] *= factor;
    }

    // as the terms of an iteration cancel, they have to see the same x and G
    void round(float* x, int64_t size) const {
        for (int64_t i = 0; matmul_.rounds() && i < size; i += LANES) {
            uint16_t rounded[LANES];
            round_to(x + i, rounded, LANES);
            store(x + i, load(rounded));
        }
    }

    // rounds a strip, and adds its product with its transpose
    void add_to_gram(float* strip, int columns) {
        round(strip, int64_t(rows_) * STRIP);
        matmul_.pack_right_transposed(strip, STRIP, columns, rows_, right_, left_);
        add_lower(strip, STRIP, columns, next_gram_, true);
    }

    // C = A B, or C += A B, for A (rows, depth) and the packed B, on the diagonal and below
    void add_lower(const float* a, int a_stride, int depth, float* c, bool add) {
        const Matmul::Left all = matmul_.left(a, a_stride, rows_, depth, left_);
        for (int first = 0; first < rows_; first += PANEL) {
            const int rows = rows_ - first;
            float* to = c + int64_t(first) * square_ + first;
            matmul_.multiply(matmul_.from_row(all, first, depth), matmul_.part(right_, depth, 0, first),
                             to, square_, rows, std::min(PANEL, rows), depth,
                             add ? Addend{to, square_} : Addend{});
        }
    }

    // what is below the diagonal also above it, square by square; rows have room for whole vectors
    void mirror(float* square) const {
        for (int top = 0; top < rows_; top += LANES) {
            const int count = std::min(LANES, rows_ - top);
            for (int i = top; i < top + count; i++) {
                for (int j = top; j < i; j++) square[int64_t(j) * square_ + i] = square[int64_t(i) * square_ + j];
            }
            for (int left = 0; left < top; left += LANES) {
                Floats rows[LANES] = {};
                for (int i = 0; i < count; i++) rows[i] = load(square + int64_t(top + i) * square_ + left);
                transpose(rows);
                for (int i = 0; i < LANES; i++) store(square + int64_t(left + i) * square_ + top, rows[i]);
            }
        }
    }

    const int rows_, columns_, square_;
    const Matmul matmul_;
    float *x_, *gram_, *next_gram_, *factor_, *left_, *packed_factor_, *right_;
};

Floats load_first(const float* from, int count) {
    if (count == LANES) return load(from);
    Floats values{};
    std::memcpy(&values, from, sizeof(float) * count);
    return values;
}

void store_first(float* to, Floats values, int count) {
    if (count == LANES) return store(to, values);
    std::memcpy(to, &values, sizeof(float) * count);
}

// function(top, left, rows, columns) for squares of LANES rows and columns; fewer at the edges
template <class Function>
void each_square(const MuonGroup& g, const Function& function) {
    for (int top = 0; top < g.rows; top += LANES) {
        for (int left = 0; left < g.columns; left += LANES) {
            function(top, left, std::min(LANES, g.rows - top), std::min(LANES, g.columns - left));
        }
    }
}

// x is the transpose of a matrix with more rows than columns
void update(const MuonMatrix& m, const MuonGroup& g, NewtonSchulz& x) {
    const bool tall = g.rows > g.columns;
    const auto place = [&](int row, int column) { return int64_t(row) * g.columns + column; };
    // 1. the momentum, and x from it
    each_square(g, [&](int top, int left, int rows, int columns) {
        Floats square[LANES] = {};
        for (int i = 0; i < rows; i++) {
            const int64_t at = place(top + i, left);
            const Floats gradient = load_first(m.gradient + at, columns);
            Floats momentum = load_first(m.momentum + at, columns);
            momentum += (1 - g.momentum) * (gradient - momentum);
            store_first(m.momentum + at, momentum, columns);
            square[i] = gradient + g.momentum * (momentum - gradient);
        }
        if (tall) transpose(square);
        for (int i = 0; i < (tall ? columns : rows); i++) {
            store(tall ? x.at(left + i, top) : x.at(top + i, left), square[i]);
        }
    });
    // 2. its singular values go to one
    x.run(g.iterations, g.coefficients);
    // 3. the weight
    each_square(g, [&](int top, int left, int rows, int columns) {
        Floats square[LANES] = {};
        for (int i = 0; i < (tall ? columns : rows); i++) {
            square[i] = load(tall ? x.at(left + i, top) : x.at(top + i, left));
        }
        if (tall) transpose(square);
        for (int i = 0; i < rows; i++) {
            float* weight = m.weight + place(top + i, left);
            store_first(weight, load_first(weight, columns) * g.decay + g.step * square[i], columns);
        }
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
        ThreadPool& pool = ThreadPool::of_process();
        const std::lock_guard<std::mutex> held(pool.in_use());
        static std::vector<Buffer> buffers;  // stay: new pages take the system as long as a product
        if (int(buffers.size()) < threads) buffers.resize(threads);
        std::vector<NewtonSchulz> of_threads;
        for (int n = 0; n < threads; n++) {
            of_threads.emplace_back(rows, columns, group->bfloat16, buffers[n]);
        }
        std::atomic<int> next{0};
        pool.run(threads, [&](int thread) {
            [[maybe_unused]] const Tiles tiles;
            for (int n = next++; n < group->count; n = next++) {
                update(group->matrices[n], *group, of_threads[thread]);
            }
        });
        return 0;
    } catch (...) {  // not enough memory
        return 1;
    }
}
