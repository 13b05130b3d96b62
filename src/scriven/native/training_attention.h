// Causal attention of one row and one key/value head, and its derivative.
//
// A block of queries meets the keys up to its own end, so that nearly half of the products are
// skipped. Of the attention weights only the logarithm of their sum is kept.
#pragma once

#include "gemm_bf16.h"
#include "training_layers.h"

constexpr int QUERIES = 48;  // of a block

struct CausalAttention {
    int length, head_dim, group;  // `group` query heads share the keys and values
    float scale;
    bool rounds = false;  // the factors of products to bfloat16

    // numbers between two rows of scores: no multiple of 4096 bytes, which share a cache set
    int score_stride() const { return in_panels(length) + 16; }

    int64_t scratch() const {
        return 2 * int64_t(in_panels(length)) * head_dim +
               3 * int64_t(length + QUERIES) * in_panels(head_dim) +
               2 * int64_t(QUERIES) * (score_stride() + in_panels(head_dim)) +
               int64_t(QUERIES) * in_panels(length) + int64_t(PANEL) * in_panels(head_dim);
    }

    // All pointers are to the first position; a stride is that between two positions.
    // y gets the output of each query head, logsum (heads of the row) the logarithm of the sum.
    void forward(const float* q, const float* k, int qk_stride, const float* v, int v_stride,
                 float* y, int y_stride, float* logsum, int logsum_stride, float* scratch) const {
        float* keys = scratch;
        float* values = keys + int64_t(in_panels(length)) * head_dim;
        float* scores = values + int64_t(length) * in_panels(head_dim);
        float* room = scores + int64_t(QUERIES) * score_stride();
        pack_columns(k, qk_stride, keys, room);
        pack_rows(v, v_stride, values);
        for (int head = 0; head < group; head++) {
            for (int begin = 0; begin < length; begin += QUERIES) {
                const int count = std::min(QUERIES, length - begin), end = begin + count;
                product(q + int64_t(begin) * qk_stride + head * head_dim, qk_stride, keys, scores,
                        score_stride(), count, end, head_dim, room);
                float* out = y + int64_t(begin) * y_stride + head * head_dim;
                float inverse[QUERIES];
                for (int i = 0; i < count; i++) {
                    float largest;
                    const float total = exponentials(scores + int64_t(i) * score_stride(),
                                                     begin + i + 1, in_lanes(end), scale, &largest);
                    inverse[i] = 1 / total;
                    logsum[int64_t(begin + i) * logsum_stride + head] =
                        scale * largest + std::log(total);
                }
                product_of_first(scores, values, out, y_stride, count, end, room);
                for (int i = 0; i < count; i++) {
                    float* row = out + int64_t(i) * y_stride;
                    for (int j = 0; j < head_dim; j += LANES) store(row + j, load(row + j) * inverse[i]);
                }
            }
        }
    }

    // The derivatives of queries, keys and values by d_y, which has the stride of y.
    void backward(const float* q, const float* k, int qk_stride, const float* v, int v_stride,
                  const float* y, const float* d_y, int y_stride, const float* logsum,
                  int logsum_stride, float* d_q, float* d_k, float* d_v, int d_stride,
                  float* scratch) const {
        const int width = in_panels(head_dim);
        float* keys_across = scratch;
        float* values_across = keys_across + int64_t(in_panels(length)) * head_dim;
        float* keys = values_across + int64_t(in_panels(length)) * head_dim;
        float* weights = keys + int64_t(length) * width;
        float* d_scores = weights + int64_t(QUERIES) * score_stride();
        float* room = d_scores + int64_t(QUERIES) * score_stride();
        pack_columns(k, qk_stride, keys_across, room);
        pack_columns(v, v_stride, values_across, room);
        pack_rows(k, qk_stride, keys);
        for (int i = 0; i < length; i++) {
            std::fill_n(d_k + int64_t(i) * d_stride, head_dim, 0.0f);
            std::fill_n(d_v + int64_t(i) * d_stride, head_dim, 0.0f);
        }
        for (int head = 0; head < group; head++) {
            for (int begin = 0; begin < length; begin += QUERIES) {
                const int count = std::min(QUERIES, length - begin), end = begin + count;
                const int64_t first = int64_t(begin) * y_stride + head * head_dim;
                const float* queries = q + int64_t(begin) * qk_stride + head * head_dim;
                product(queries, qk_stride, keys_across, weights, score_stride(), count, end, head_dim,
                        room);
                product(d_y + first, y_stride, values_across, d_scores, score_stride(), count, end,
                        head_dim, room);
                for (int i = 0; i < count; i++) {
                    const int64_t row = first + int64_t(i) * y_stride;
                    differentiate(weights + int64_t(i) * score_stride(),
                                  d_scores + int64_t(i) * score_stride(), begin + i + 1, end,
                                  logsum[int64_t(begin + i) * logsum_stride + head],
                                  dot(d_y + row, y + row, head_dim));
                }
                product_of_first(d_scores, keys, d_q + int64_t(begin) * d_stride + head * head_dim,
                                 d_stride, count, end, room);
                add_products_across(d_scores, queries, qk_stride, d_k, d_stride, count, end, room);
                add_products_across(weights, d_y + first, y_stride, d_v, d_stride, count, end, room);
            }
        }
    }

   private:
    static constexpr int in_lanes(int size) { return (size + LANES - 1) / LANES * LANES; }

    // (length, head_dim) -> panels of (head_dim, length)
    void pack_columns(const float* from, int stride, float* to, float* room) const {
#ifdef HAS_PAIRS
        if (rounds) {
            return pack_pairs_transposed(from, stride, head_dim, length, as_pairs(to), as_pairs(room));
        }
#endif
        pack_transposed(from, stride, head_dim, length, to);
    }

    // (length, head_dim) -> panels of it
    void pack_rows(const float* from, int stride, float* to) const {
#ifdef HAS_PAIRS
        if (rounds) return pack_pairs(from, stride, length, head_dim, as_pairs(to));
#endif
        pack(from, stride, length, head_dim, to);
    }

    // C (rows, columns) = A B for a packed B; of A, whole vectors are read
    void product(const float* a, int a_stride, const float* b, float* c, int c_stride, int rows,
                 int columns, int depth, float* room) const {
#ifdef HAS_PAIRS
        if (rounds) {
            round_along(a, a_stride, rows, depth, as_pairs(room));
            return multiply<Read::ALONG>(as_pairs(room), pair_stride(depth), as_pairs(b), c, c_stride,
                                         rows, columns, pairs(depth), false);
        }
#endif
        multiply<Read::ALONG>(a, a_stride, b, c, c_stride, rows, columns, depth, false);
    }

    // y (count, head_dim) = scores times the first `end` rows of a matrix packed for all positions
    void product_of_first(const float* scores, const float* packed, float* y, int y_stride, int count,
                          int end, float* room) const {
#ifdef HAS_PAIRS
        if (rounds) round_along(scores, score_stride(), count, end, as_pairs(room));
#endif
        for (int column = 0; column < head_dim; column += PANEL) {
            const int columns = std::min(PANEL, head_dim - column);
#ifdef HAS_PAIRS
            if (rounds) {
                multiply<Read::ALONG>(as_pairs(room), pair_stride(end),
                                      as_pairs(packed) + int64_t(column) * pairs(length), y + column,
                                      y_stride, count, columns, pairs(end), false);
                continue;
            }
#endif
            multiply<Read::ALONG>(scores, score_stride(), packed + int64_t(column) * length, y + column,
                                  y_stride, count, columns, end, false);
        }
    }

    // C (end, head_dim) += scores^T B for scores (count, end) and B (count, head_dim)
    void add_products_across(const float* scores, const float* b, int b_stride, float* c, int c_stride,
                             int count, int end, float* room) const {
#ifdef HAS_PAIRS
        if (rounds) {
            return add_rounded_outer_products(scores, score_stride(), b, b_stride, c, c_stride, end,
                                              head_dim, count, as_pairs(room));
        }
#endif
        pack(b, b_stride, count, head_dim, room);
        multiply<Read::ACROSS>(scores, score_stride(), room, c, c_stride, end, head_dim, count, true);
    }

    // scores -> weights, and d_weights -> d_scores; both are 0 for the keys behind `seen`
    void differentiate(float* weights, float* d_scores, int seen, int end, float logsum,
                       float delta) const {
        for (int j = 0; j < seen; j += LANES) {
            const Floats weight = exp(load(weights + j) * scale - logsum);
            store(weights + j, weight);
            store(d_scores + j, weight * (load(d_scores + j) - delta) * scale);
        }
        for (int j = seen; j < in_lanes(end); j++) weights[j] = d_scores[j] = 0;
    }
};
