// Causal attention of one row and one key/value head, and its derivative.
//
// A block of queries meets the keys up to its own end, so that nearly half of the products are
// skipped. Of the attention weights only the logarithm of their sum is kept. The backward pass goes
// through blocks of queries and keys whose weights fit into the first cache level, as
// FlashAttention does (Dao et al. 2022, arXiv 2205.14135).
#pragma once

#include <limits>
#include <optional>

#include "dropout.h"
#include "matmul.h"
#include "training_layers.h"

constexpr int QUERIES = 64, KEYS = 64;  // of a block

// Dropout of attention weights. An element has the number of its place in (heads, length, length),
// that of the first being `first`.
struct DroppedWeights {
    std::optional<Dropout::Mask> mask;  // none: none is dropped
    uint32_t first = 0;
};

// vectors of positions, for one head or several
template <class Number>
struct Heads {
    Number* first;
    int64_t stride, head_stride;  // numbers from one position to the next, and from one head to the next

    Number* at(int head, int position) const { return first + head * head_stride + position * stride; }
};

struct CausalAttention {
    int length, head_dim, group;  // `group` query heads share the keys and values
    float scale;
    Matmul matmul;
    DroppedWeights dropped = {};
    int window = std::numeric_limits<int>::max();  // keys that a query sees, its own included

    int64_t scratch() const {
        return 2 * packed_size(head_dim, length) + packed_size(length, head_dim) +
               packed_size(QUERIES, length) +
               int64_t(QUERIES) * score_stride() + packed_size(PANEL, head_dim) +
               2 * int64_t(head_dim) * score_stride() + 5 * (packed_size(QUERIES, head_dim) + packed_size(head_dim, QUERIES)) +
               5 * packed_size(QUERIES, KEYS);
    }

    // y gets the output of each query head, logsum (query heads, length) the logarithm of the sum of
    // its weights.
    void forward(Heads<const float> q, Heads<const float> k, Heads<const float> v, Heads<float> y,
                 float* logsum, float* scratch) const {
        Scratch memory{scratch};
        float* keys = memory.take(packed_size(head_dim, length));
        float* values = memory.take(packed_size(length, head_dim));
        float* scores = memory.take(int64_t(QUERIES) * score_stride());
        float* left = memory.take(packed_size(QUERIES, length) + packed_size(PANEL, head_dim));
        matmul.pack_right_transposed(k.first, k.stride, head_dim, length, keys, left);
        matmul.pack_right(v.first, v.stride, length, head_dim, values);
        for (int head = 0; head < group; head++) {
            for (int begin = 0; begin < length; begin += QUERIES) {
                const int count = std::min(QUERIES, length - begin), end = begin + count;
                const int first = first_key(begin), seen = end - first;
                matmul.multiply(matmul.left(q.at(head, begin), q.stride, count, head_dim, left),
                                matmul.part(keys, head_dim, 0, first), scores, score_stride(), count,
                                seen, head_dim);
                float inverse[QUERIES];
                for (int i = 0; i < count; i++) {
                    float largest;
                    float* row = scores + int64_t(i) * score_stride();
                    const int query = begin + i, hidden = std::max(0, query + 1 - window - first);
                    const float total = exponentials(row, hidden, query + 1 - first, in_lanes(seen),
                                                     scale, &largest);
                    if (dropped.mask) drop(row, seen, number(head, query, first));
                    inverse[i] = 1 / total;
                    logsum[head * length + query] = scale * largest + std::log(total);
                }
                float* out = y.at(head, begin);
                matmul.multiply(matmul.left(scores, score_stride(), count, seen, left),
                                matmul.part(values, length, first, 0), length, out, y.stride, count,
                                head_dim, seen);
                for (int i = 0; i < count; i++) {
                    float* row = out + i * y.stride;
                    for (int j = 0; j < head_dim; j += LANES) store(row + j, load(row + j) * inverse[i]);
                }
            }
        }
    }

    // The derivatives of queries, keys and values by d_y.
    void backward(Heads<const float> q, Heads<const float> k, Heads<const float> v,
                  Heads<const float> y, Heads<const float> d_y, const float* logsum, Heads<float> d_q,
                  Heads<float> d_k, Heads<float> d_v, float* scratch) const {
        Scratch memory{scratch};
        float* keys_across = memory.take(packed_size(head_dim, length));
        float* values_across = memory.take(packed_size(head_dim, length));
        float* keys = memory.take(packed_size(length, head_dim));
        // derivatives of keys and values, transposed: (head_dim, length)
        float* d_keys = memory.take(int64_t(head_dim) * score_stride());
        float* d_values = memory.take(int64_t(head_dim) * score_stride());
        float* factors[5];
        for (float*& each : factors) {
            each = memory.take(std::max(packed_size(QUERIES, head_dim), packed_size(head_dim, QUERIES)));
        }
        Block block;
        for (float** each : {&block.scores, &block.d_scores, &block.packed_weights,
                             &block.packed_d_scores, &block.rounded}) {
            *each = memory.take(packed_size(QUERIES, KEYS));
        }
        matmul.pack_right_transposed(k.first, k.stride, head_dim, length, keys_across, factors[0]);
        matmul.pack_right_transposed(v.first, v.stride, head_dim, length, values_across, factors[0]);
        matmul.pack_right(k.first, k.stride, length, head_dim, keys);
        std::fill_n(d_keys, int64_t(head_dim) * score_stride(), 0.0f);
        std::fill_n(d_values, int64_t(head_dim) * score_stride(), 0.0f);
        for (int head = 0; head < group; head++) {
            for (int begin = 0; begin < length; begin += QUERIES) {
                // 1. a block of queries, in all the forms that products need
                const int count = std::min(QUERIES, length - begin);
                const float* queries = q.at(head, begin);
                const float* d_out = d_y.at(head, begin);
                const auto rows = matmul.left(queries, q.stride, count, head_dim, factors[1]);
                const auto d_rows = matmul.left(d_out, d_y.stride, count, head_dim, factors[2]);
                const auto across =
                    matmul.left_transposed(queries, q.stride, head_dim, count, factors[3]);
                const auto d_across =
                    matmul.left_transposed(d_out, d_y.stride, head_dim, count, factors[4]);
                block.logsum = logsum + head * length + begin;
                for (int i = 0; i < count; i++) {
                    block.delta[i] = dot(d_y.at(head, begin + i), y.at(head, begin + i), head_dim);
                }
                for (int first = first_key(begin); first <= begin; first += KEYS) {
                    // 2. it meets a block of keys: scores, and the derivatives of weights
                    const int seen = first < begin ? KEYS : count;
                    matmul.multiply(rows, matmul.part(keys_across, head_dim, 0, first), block.scores,
                                    KEYS, count, seen, head_dim);
                    matmul.multiply(d_rows, matmul.part(values_across, head_dim, 0, first),
                                    block.d_scores, KEYS, count, seen, head_dim);
                    // 3. weights, and the derivatives of scores
                    block.first_number = number(head, begin, first);
                    block.distance = begin - first;
                    const auto d_scores = differentiate(block, count, seen);
                    // 4. the derivatives of queries, keys and values
                    float* d_queries = d_q.at(head, begin);
                    matmul.multiply(d_scores, matmul.part(keys, length, first, 0), length, d_queries,
                                    d_q.stride, count, head_dim, seen,
                                    first > first_key(begin) ? Addend{d_queries, d_q.stride} : Addend{});
                    matmul.multiply(across, block.packed_d_scores, d_keys + first, score_stride(),
                                    head_dim, seen, count, Addend{d_keys + first, score_stride()});
                    matmul.multiply(d_across, block.packed_weights, d_values + first, score_stride(),
                                    head_dim, seen, count, Addend{d_values + first, score_stride()});
                }
            }
        }
        write_transpose(d_keys, d_k);
        write_transpose(d_values, d_v);
    }

   private:
    struct Block {
        float *scores, *d_scores;  // (QUERIES, KEYS)
        float *packed_weights, *packed_d_scores;
        float* rounded;  // derivatives of scores as a first factor
        const float* logsum;
        float delta[QUERIES];
        uint32_t first_number;  // of the first attention weight
        int distance;           // from the first key to the first query
    };

    // where the block begins that has the first key of the query at `begin`
    int first_key(int begin) const { return std::max(0, begin + 1 - window) / KEYS * KEYS; }

    // of an attention weight, for dropout
    uint32_t number(int head, int query, int key) const {
        return dropped.first + (uint32_t(head) * length + query) * length + key;
    }

    void drop(float* weights, int count, uint32_t first) const {
        for (int j = 0; j < count; j += LANES) {
            store(weights + j, load(weights + j) * dropped.mask->factors(first + j));
        }
    }

    // where an element of a second factor with `rows` rows is
    static int in_panel(int row, int column, int rows) {
        return (column / PANEL * rows + row) * PANEL + column % PANEL;
    }

    static constexpr int in_lanes(int size) { return (size + LANES - 1) / LANES * LANES; }

    // numbers between two rows of scores: no multiple of 4096 bytes, which share a cache set
    int score_stride() const { return in_panels(length) + 16; }

    // The weights of a block and the derivatives of its scores, packed as second factors, and the
    // latter returned as a first one.
    Matmul::Left differentiate(const Block& b, int count, int seen) const {
        const bool hides = b.distance == 0 || b.distance + count > window;
        if (dropped.mask) {
            return hides ? differentiate<true, true>(b, count, seen)
                         : differentiate<false, true>(b, count, seen);
        }
        return hides ? differentiate<true, false>(b, count, seen)
                     : differentiate<false, false>(b, count, seen);
    }

    template <bool HIDES, bool DROPS>
    Matmul::Left differentiate(const Block& b, int count, int seen) const {
        Ints lane;
        for (int i = 0; i < LANES; i++) lane[i] = i;
        // of LANES keys: {weights, derivatives}
        const auto of_query = [&](int i, int j) {
            Floats weight = exp(load(b.scores + i * KEYS + j) * scale - b.logsum[i]);
            Floats d_weight = load(b.d_scores + i * KEYS + j), factor;
            if constexpr (DROPS) {
                factor = dropped.mask->factors(b.first_number + uint32_t(i * length + j));
                d_weight *= factor;
            }
            Floats d_score = weight * (d_weight - b.delta[i]) * scale;
            if constexpr (DROPS) weight *= factor;
            if constexpr (HIDES) {
                const Ints key = lane + (j - b.distance);
                const Ints is_seen = (key <= i) & (key > i - window);
                weight = select(is_seen, weight, Floats{}), d_score = select(is_seen, d_score, Floats{});
            }
            return std::pair{weight, d_score};
        };
#ifdef HAS_PAIRS
        if (matmul.rounds()) {
            Pair* weights = reinterpret_cast<Pair*>(b.packed_weights);
            Pair* d_scores = reinterpret_cast<Pair*>(b.packed_d_scores);
            Pair* rows = reinterpret_cast<Pair*>(b.rounded);
            const int width = pairs(seen);
            for (int k = 0; k < pairs(count); k++) {
                for (int j = 0; j < seen; j += 2 * LANES) {
                    Floats w[2][2] = {}, d[2][2] = {};  // of two queries, 2 LANES keys each
                    for (int row = 0; row < 2 && 2 * k + row < count; row++) {
                        for (int v = 0; v < 2; v++) {
                            const auto found = of_query(2 * k + row, j + v * LANES);
                            w[row][v] = found.first, d[row][v] = found.second;
                        }
                        store_first(rows + (2 * k + row) * width + j / 2,
                                    round_neighbours(d[row][0], d[row][1]), width - j / 2);
                    }
                    for (int v = 0; v < 2; v++) {
                        const int place = in_panel(k, j + v * LANES, pairs(count));
                        store(weights + place, round_rows(w[0][v], w[1][v]));
                        store(d_scores + place, round_rows(d[0][v], d[1][v]));
                    }
                }
            }
            return {nullptr, rows, 0, false};
        }
#endif
        for (int i = 0; i < count; i++) {
            for (int j = 0; j < seen; j += LANES) {
                const auto [weight, d_score] = of_query(i, j);
                const int place = in_panel(i, j, count);
                store(b.packed_weights + place, weight);
                store(b.packed_d_scores + place, d_score);
                store(b.d_scores + i * KEYS + j, d_score);
            }
        }
        return {b.d_scores, nullptr, KEYS, false};
    }

    // (head_dim, length) -> (length, head_dim)
    void write_transpose(const float* from, Heads<float> to) const {
        for (int j = 0; j < length; j += LANES) {
            for (int i = 0; i < head_dim; i += LANES) {
                Floats square[LANES];
                for (int n = 0; n < LANES; n++) square[n] = load(from + (i + n) * score_stride() + j);
                transpose(square);
                for (int n = 0; n < std::min(LANES, length - j); n++) {
                    store(to.at(0, j + n) + i, square[n]);
                }
            }
        }
    }
};
