// The layers of a decoder that act on each position by itself, and their derivatives.
//
// Rows lie one after the other; a size is a multiple of LANES where no other is named.
#pragma once

#include <cstdint>

#include "simd.h"

// four sums, or each addition would wait for the one before
inline float dot(const float* a, const float* b, int size) {
    Floats sums[4] = {};
    int i = 0;
    for (; i + 4 * LANES <= size; i += 4 * LANES) {
        for (int n = 0; n < 4; n++) sums[n] += load(a + i + n * LANES) * load(b + i + n * LANES);
    }
    for (; i < size; i += LANES) sums[0] += load(a + i) * load(b + i);
    return sum((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

inline float rms_scale(const float* x, int size, float eps) {
    return 1.0f / std::sqrt(dot(x, x, size) / static_cast<float>(size) + eps);
}

// y = x / sqrt(mean(x^2) + eps) * weight
inline void rms_norm(const float* x, const float* weight, float* y, int size, float eps) {
    const float scale = rms_scale(x, size, eps);
    for (int i = 0; i < size; i += LANES) store(y + i, load(x + i) * scale * load(weight + i));
}

// With n = x * scale and g = d_y * weight: d_x = scale * (g - n * mean(g * n)), d_weight = d_y * n.
// d_weight is added to; d_x is, too, if ADD.
template <bool ADD>
inline void rms_norm_backward(const float* x, const float* weight, const float* d_y, float* d_x,
                              float* d_weight, int size, float eps) {
    const float scale = rms_scale(x, size, eps);
    Floats total = {};
    for (int i = 0; i < size; i += LANES) {
        const Floats product = load(d_y + i) * (load(x + i) * scale);
        store(d_weight + i, load(d_weight + i) + product);
        total += product * load(weight + i);
    }
    const float mean = sum(total) / static_cast<float>(size);
    for (int i = 0; i < size; i += LANES) {
        Floats value = load(d_y + i) * load(weight + i) - load(x + i) * (scale * mean);
        value *= scale;
        store(d_x + i, ADD ? load(d_x + i) + value : value);
    }
}

struct Moments {
    float mean, scale;  // scale: 1 / sqrt(variance + eps)
};

inline Moments moments(const float* x, int size, float eps) {
    Floats total = {}, squares = {};
    for (int i = 0; i < size; i += LANES) total += load(x + i);
    const float mean = sum(total) / static_cast<float>(size);
    for (int i = 0; i < size; i += LANES) {
        const Floats centred = load(x + i) - mean;
        squares += centred * centred;
    }
    return {mean, 1.0f / std::sqrt(sum(squares) / static_cast<float>(size) + eps)};
}

// y = (x - mean(x)) / sqrt(variance(x) + eps) * weight + bias
inline void layer_norm(const float* x, const float* weight, const float* bias, float* y, int size,
                       float eps) {
    const auto [mean, scale] = moments(x, size, eps);
    for (int i = 0; i < size; i += LANES) {
        store(y + i, (load(x + i) - mean) * scale * load(weight + i) + load(bias + i));
    }
}

// With n = (x - mean) * scale and g = d_y * weight: d_x += scale * (g - mean(g) - n * mean(g * n)),
// d_weight += d_y * n, d_bias += d_y.
inline void layer_norm_backward(const float* x, const float* weight, const float* d_y, float* d_x,
                                float* d_weight, float* d_bias, int size, float eps) {
    const auto [mean, scale] = moments(x, size, eps);
    Floats total = {}, products = {};
    for (int i = 0; i < size; i += LANES) {
        const Floats grad = load(d_y + i), normed = (load(x + i) - mean) * scale;
        store(d_weight + i, load(d_weight + i) + grad * normed);
        store(d_bias + i, load(d_bias + i) + grad);
        total += grad * load(weight + i);
        products += grad * normed * load(weight + i);
    }
    const float mean_grad = sum(total) / static_cast<float>(size);
    const float mean_product = sum(products) / static_cast<float>(size);
    for (int i = 0; i < size; i += LANES) {
        const Floats normed = (load(x + i) - mean) * scale;
        const Floats value = load(d_y + i) * load(weight + i) - mean_grad - normed * mean_product;
        store(d_x + i, load(d_x + i) + value * scale);
    }
}

// total += the sum of the rows of x
inline void add_rows(const float* x, int stride, int rows, int width, float* total) {
    for (int j = 0; j < width; j += LANES) {
        Floats column = load(total + j);
        for (int i = 0; i < rows; i++) column += load(x + int64_t(i) * stride + j);
        store(total + j, column);
    }
}

// Rotary positions: dimension i turns together with i + half (nn/embeddings.py, whose tables have
// the minus of the first half). The transpose turns back.
inline void rotate(const float* x, const float* cos, const float* sin, float* y, int half) {
    for (int i = 0; i < half; i += LANES) {
        const Floats first = load(x + i), second = load(x + half + i);
        store(y + i, first * load(cos + i) + second * load(sin + i));
        store(y + half + i, second * load(cos + half + i) + first * load(sin + half + i));
    }
}

inline void rotate_back(float* x, const float* cos, const float* sin, int half) {
    for (int i = 0; i < half; i += LANES) {
        const Floats first = load(x + i), second = load(x + half + i);
        store(x + i, first * load(cos + i) + second * load(sin + half + i));
        store(x + half + i, second * load(cos + half + i) + first * load(sin + i));
    }
}

// What comes between the two layers of a feed-forward network: y = activation(gate) * up, or
// activation(gate) where `up` is null.
inline void feed_forward_hidden(Activation kind, const float* gate, const float* up, float* y, int size) {
    of_activation(kind, [&]<Activation KIND>() {
        for (int i = 0; i < size; i += LANES) {
            const Floats value = activate<KIND>(load(gate + i)).value;
            store(y + i, up ? value * load(up + i) : value);
        }
    });
}

// y, and the derivatives of gate and up by that of y
template <class Number>
inline void feed_forward_hidden_backward(Activation kind, const Number* gate, const Number* up,
                                         const float* d_y, float* y, float* d_gate, float* d_up,
                                         int size) {
    of_activation(kind, [&]<Activation KIND>() {
        for (int i = 0; i < size; i += LANES) {
            const Floats grad = load(d_y + i);
            const Activated activated = activate<KIND>(load(gate + i));
            if (up) {
                const Floats factor = load(up + i);
                store(y + i, activated.value * factor);
                store(d_gate + i, grad * factor * activated.slope);
                store(d_up + i, grad * activated.value);
            } else {
                store(y + i, activated.value);
                store(d_gate + i, grad * activated.slope);
            }
        }
    });
}

// rounds to bfloat16
inline void round_to(const float* from, uint16_t* to, int size) {
#ifdef HAS_PAIRS
    int i = 0;
    for (; i + 2 * LANES <= size; i += 2 * LANES) {
        const Pairs rounded = round_neighbours(load(from + i), load(from + i + LANES));
        std::memcpy(to + i, &rounded, sizeof rounded);
    }
    for (; i < size; i += LANES) {
        const __m256bh rounded = _mm512_cvtneps_pbh((__m512)load(from + i));
        std::memcpy(to + i, &rounded, sizeof rounded);
    }
#else
    for (int i = 0; i < size; i++) convert(from[i], to + i);
#endif
}

// In place: scores become e^(scale (score - largest)) from `first` up to `end`, and 0 in the rest of
// `room`. Returns their sum; `room` is a multiple of LANES.
inline float exponentials(float* scores, int first, int end, int room, float scale, float* largest) {
    std::fill_n(scores, first, -1e30f);
    std::fill(scores + end, scores + room, -1e30f);
    Floats most = load(scores);
    for (int j = LANES; j < room; j += LANES) {
        const Floats next = load(scores + j);
        most = select(next > most, next, most);
    }
    *largest = most[0];
    for (int lane = 1; lane < LANES; lane++) *largest = std::max(*largest, most[lane]);
    Floats total = {};
    for (int j = 0; j < room; j += LANES) {
        const Floats value = exp((load(scores + j) - *largest) * scale);
        store(scores + j, value);
        total += value;
    }
    std::fill_n(scores, first, 0.0f);
    std::fill(scores + end, scores + room, 0.0f);
    return sum(total);
}

// The cross entropy of a row of logits; they become its derivative. A negative target has neither.
// `correct` is 1 where the target is the likeliest token.
inline double cross_entropy(float* logits, int vocab_size, int room, int64_t target, int* correct) {
    *correct = 0;
    if (target < 0) {
        std::fill_n(logits, room, 0.0f);
        return 0;
    }
    const float wanted = logits[target];
    for (int j = vocab_size; j < room; j++) logits[j] = -1e30f;
    int likeliest = 0;
    for (int j = 1; j < vocab_size; j++) likeliest = logits[j] > logits[likeliest] ? j : likeliest;
    *correct = likeliest == target;
    float largest;
    const float total = exponentials(logits, 0, vocab_size, room, 1.0f, &largest);
    for (int j = 0; j < room; j += LANES) store(logits + j, load(logits + j) * (1.0f / total));
    logits[target] -= 1;
    return std::log(static_cast<double>(total)) + largest - wanted;
}
