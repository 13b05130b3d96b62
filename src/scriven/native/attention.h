// Attention of one token over the keys and values of its row of the cache.
//
// Query heads that share a key/value head (grouped-query attention) read it one after the other,
// while it is in the cache of the CPU. How keys are added up follows from their number, so that a
// result depends on the row alone.
#pragma once

#include <vector>

#include "simd.h"

struct AttentionShape {
    int heads, kv_heads, head_dim;
    float scale;    // of the scores
    float softcap;  // largest absolute score; 0: no limit
    int window;     // how many last positions are seen; 0: all
};

// product of the lanes of D floats and D cached numbers, added up to one vector;
// VECTORS = D / LANES, or 0 where D is not known
template <int VECTORS, class Cached>
inline Floats products(const float* query, const Cached* key, int head_dim) {
    const int vectors = VECTORS ? VECTORS : head_dim / LANES;
    Floats total{};
    for (int v = 0; v < vectors; v++) total += load(query + v * LANES) * load(key + v * LANES);
    return total;
}

// Fetches numbers that are read soon. A head has few of them side by side, too few for the hardware
// to see where they go on.
template <class Cached>
inline void fetch(const Cached* numbers, int count) {
    constexpr int LINE = 64 / sizeof(Cached);
    for (int i = 0; i < count; i += LINE) __builtin_prefetch(numbers + i);
}

// query (D) times keys (count, D) -> scores (count); next: what is read after these keys
template <int VECTORS, class Cached>
inline void dot_each(const float* query, const Cached* keys, const Cached* next, int head_dim,
                     int count, float scale, float* scores) {
    int s = 0;
    if constexpr (VECTORS > 0) {
        for (; s + LANES <= count; s += LANES) {
            fetch(next + int64_t(s) * head_dim, LANES * head_dim);
            Floats vectors[LANES];
            for (int i = 0; i < LANES; i++) {
                vectors[i] = products<VECTORS>(query, keys + int64_t(s + i) * head_dim, head_dim);
            }
            store(scores + s, sum_each(vectors) * scale);
        }
    }
    for (; s < count; s++) {
        const Cached* key = keys + int64_t(s) * head_dim;
        float score = sum(products<VECTORS>(query, key, head_dim));
        for (int i = head_dim / LANES * LANES; i < head_dim; i++) score += query[i] * to_float(key[i]);
        scores[s] = score * scale;
    }
}

// y += weight * value
template <class Cached>
inline void add_scaled(float weight, const Cached* value, float* y, int head_dim) {
    const int vectors = head_dim / LANES;
    for (int v = 0; v < vectors; v++) {
        store(y + v * LANES, load(y + v * LANES) + load(value + v * LANES) * weight);
    }
    for (int i = vectors * LANES; i < head_dim; i++) y[i] += weight * to_float(value[i]);
}

// scores -> weights that sum to 1, in place
inline void softmax(float* scores, int count) {
    const int whole = count / LANES * LANES;
    float rest[LANES] = {};  // the last ones beside zeros
    std::copy(scores + whole, scores + count, rest);
    Floats most = Floats{} + scores[0];
    for (int i = 0; i < whole; i += LANES) {
        const Floats own = load(scores + i);
        most = select(own > most, own, most);
    }
    float highest = largest(&most);
    for (int i = whole; i < count; i++) highest = std::max(highest, scores[i]);
    Floats totals{};
    for (int i = 0; i < whole; i += LANES) {
        const Floats weights = exp(load(scores + i) - highest);
        store(scores + i, weights);
        totals += weights;
    }
    float total = sum(totals);
    store(rest, exp(load(rest) - highest));
    for (int i = whole; i < count; i++) total += scores[i] = rest[i - whole];
    const float factor = 1.0f / total;
    for (int i = 0; i < count; i++) scores[i] *= factor;
}

// values (count, D), each times its weight -> y (D); next: what is read after these values
template <int VECTORS, class Cached>
inline void weighted_sum(const float* weights, const Cached* values, const Cached* next,
                         int head_dim, int count, float* y) {
    if constexpr (VECTORS > 0) {
        // An addition waits for the last one to the same register: with few registers, two sets of
        // them take turns.
        constexpr int SETS = VECTORS < 4 ? 2 : 1;
        Floats totals[SETS][VECTORS] = {};
        int s = 0;
        for (; s + SETS <= count; s += SETS) {
            fetch(next + int64_t(s) * head_dim, SETS * head_dim);
            for (int set = 0; set < SETS; set++) {
                const Cached* value = values + int64_t(s + set) * head_dim;
                for (int v = 0; v < VECTORS; v++) {
                    totals[set][v] += load(value + v * LANES) * weights[s + set];
                }
            }
        }
        for (; s < count; s++) {
            const Cached* value = values + int64_t(s) * head_dim;
            for (int v = 0; v < VECTORS; v++) totals[0][v] += load(value + v * LANES) * weights[s];
        }
        for (int v = 0; v < VECTORS; v++) {
            store(y + v * LANES, SETS == 2 ? totals[0][v] + totals[SETS - 1][v] : totals[0][v]);
        }
    } else {
        std::fill_n(y, head_dim, 0.0f);
        for (int s = 0; s < count; s++) {
            add_scaled(weights[s], values + int64_t(s) * head_dim, y, head_dim);
        }
    }
}

// queries (G, D) of the G heads that share a key/value head -> y (G, D), at `position`;
// keys and values (S, D), S > position; next: keys that are read after these; scores: room for
// position + 1
template <int VECTORS, class Cached>
void attend(const AttentionShape& shape, const float* queries, const Cached* keys,
            const Cached* values, const Cached* next, int position, float* scores, float* y) {
    const int head_dim = shape.head_dim, group = shape.heads / shape.kv_heads;
    const int begin = shape.window ? std::max(0, position + 1 - shape.window) : 0;
    const int count = position + 1 - begin;
    keys += int64_t(begin) * head_dim, values += int64_t(begin) * head_dim;
    next += int64_t(begin) * head_dim;
    for (int g = 0; g < group; g++) {
        const float* query = queries + g * head_dim;
        dot_each<VECTORS>(query, keys, values, head_dim, count, shape.scale, scores);
        for (int i = 0; shape.softcap > 0 && i < count; i++) {
            scores[i] = shape.softcap * std::tanh(scores[i] / shape.softcap);
        }
        softmax(scores, count);
        weighted_sum<VECTORS>(scores, values, next, head_dim, count, y + g * head_dim);
    }
}

template <class Cached>
void attend(const AttentionShape& shape, const float* queries, const Cached* keys,
            const Cached* values, const Cached* next, int position, float* scores, float* y) {
    const int vectors = shape.head_dim % LANES ? 0 : shape.head_dim / LANES;
    const auto kernel = vectors == 1   ? attend<1, Cached>
                        : vectors == 2 ? attend<2, Cached>
                        : vectors == 4 ? attend<4, Cached>
                        : vectors == 8 ? attend<8, Cached>
                                       : attend<0, Cached>;
    kernel(shape, queries, keys, values, next, position, scores, y);
}
