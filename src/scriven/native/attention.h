// Attention of one token over the keys and values of its row of the cache.
//
// Query heads that share a key/value head (grouped-query attention) read it together. Keys are added
// up in the order of their positions, so that a result depends on the row alone.
#pragma once

#include <vector>

#include "simd.h"

struct AttentionShape {
    int heads, kv_heads, head_dim;
    float scale;    // of the scores
    float softcap;  // largest absolute score; 0: no limit
    int window;     // how many last positions are seen; 0: all
};

// dot product of D floats with D cached numbers; VECTORS = D / LANES, or 0 where D is not known
template <int VECTORS, class Cached>
inline float dot(const float* query, const Cached* key, int head_dim) {
    const int vectors = VECTORS ? VECTORS : head_dim / LANES;
    Floats total{};
    for (int v = 0; v < vectors; v++) total += load(query + v * LANES) * load(key + v * LANES);
    float result = sum(total);
    for (int i = vectors * LANES; i < head_dim; i++) result += query[i] * to_float(key[i]);
    return result;
}

// y += weight * value
template <int VECTORS, class Cached>
inline void add_scaled(float weight, const Cached* value, float* y, int head_dim) {
    const int vectors = VECTORS ? VECTORS : head_dim / LANES;
    for (int v = 0; v < vectors; v++) {
        store(y + v * LANES, load(y + v * LANES) + load(value + v * LANES) * weight);
    }
    for (int i = vectors * LANES; i < head_dim; i++) y[i] += weight * to_float(value[i]);
}

// scores -> weights that sum to 1, in place
inline void softmax(float* scores, int count) {
    float largest = scores[0];
    for (int i = 1; i < count; i++) largest = std::max(largest, scores[i]);
    float total = 0;
    int i = 0;
    for (; i + LANES <= count; i += LANES) {
        const Floats weights = exp(load(scores + i) - largest);
        store(scores + i, weights);
        total += sum(weights);
    }
    float rest[LANES] = {};  // the last ones beside zeros
    if (i < count) {
        std::copy(scores + i, scores + count, rest);
        store(rest, exp(load(rest) - largest));
        for (int j = 0; j < count - i; j++) total += scores[i + j] = rest[j];
    }
    const float factor = 1.0f / total;
    for (int j = 0; j < count; j++) scores[j] *= factor;
}

// queries (G, D) of the G heads that share a key/value head -> y (G, D), at `position`;
// keys and values (S, D), S > position; scores: room for G * (position + 1)
template <int VECTORS, class Cached>
void attend(const AttentionShape& shape, const float* queries, const Cached* keys,
            const Cached* values, int position, float* scores, float* y) {
    const int head_dim = shape.head_dim, group = shape.heads / shape.kv_heads;
    const int begin = shape.window ? std::max(0, position + 1 - shape.window) : 0;
    const int count = position + 1 - begin;
    // 1. scores of all keys that are seen
    for (int s = 0; s < count; s++) {
        const Cached* key = keys + int64_t(begin + s) * head_dim;
        for (int g = 0; g < group; g++) {
            const float score = dot<VECTORS>(queries + g * head_dim, key, head_dim) * shape.scale;
            scores[g * count + s] = score;
        }
    }
    for (int i = 0; shape.softcap > 0 && i < group * count; i++) {
        scores[i] = shape.softcap * std::tanh(scores[i] / shape.softcap);
    }
    // 2. softmax
    for (int g = 0; g < group; g++) softmax(scores + g * count, count);
    // 3. the weighted sum of the values
    for (int g = 0; g < group; g++) {
        if constexpr (VECTORS > 0) {
            Floats total[VECTORS] = {};
            for (int s = 0; s < count; s++) {
                const Cached* value = values + int64_t(begin + s) * head_dim;
                const float weight = scores[g * count + s];
                for (int v = 0; v < VECTORS; v++) total[v] += load(value + v * LANES) * weight;
            }
            for (int v = 0; v < VECTORS; v++) store(y + g * head_dim + v * LANES, total[v]);
        } else {
            std::fill_n(y + g * head_dim, head_dim, 0.0f);
            for (int s = 0; s < count; s++) {
                const Cached* value = values + int64_t(begin + s) * head_dim;
                add_scaled<0>(scores[g * count + s], value, y + g * head_dim, head_dim);
            }
        }
    }
}

template <class Cached>
void attend(const AttentionShape& shape, const float* queries, const Cached* keys,
            const Cached* values, int position, float* scores, float* y) {
    const int vectors = shape.head_dim % LANES ? 0 : shape.head_dim / LANES;
    const auto kernel = vectors == 1   ? attend<1, Cached>
                        : vectors == 2 ? attend<2, Cached>
                        : vectors == 4 ? attend<4, Cached>
                        : vectors == 8 ? attend<8, Cached>
                                       : attend<0, Cached>;
    kernel(shape, queries, keys, values, position, scores, y);
}
