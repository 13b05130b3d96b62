// Dropout without a stored mask: whether an element is dropped follows from a seed and from where
// the element stands, so that the backward pass finds the same ones.
#pragma once

#include "simd.h"

struct Dropout {
    float p;        // fraction of the elements that are dropped
    uint32_t seed;  // of a step

    // y = x + the rest of `update`, scaled up to the same mean; rows of one place in the model
    void add_rest(uint32_t place, int64_t first, int64_t size, const float* x, const float* update,
                  float* y) const {
        each_vector(place, first, size, [&](int64_t i, Floats factor) {
            store(y + i, load(x + i) + load(update + i) * factor);
        });
    }

    // d_update = the derivative of the above by `update`
    void backward(uint32_t place, int64_t first, int64_t size, const float* d_y,
                  float* d_update) const {
        each_vector(place, first, size, [&](int64_t i, Floats factor) {
            store(d_update + i, load(d_y + i) * factor);
        });
    }

   private:
    typedef uint32_t Bits __attribute__((vector_size(4 * LANES)));

    // the integer hash "lowbias32" (Wellons 2018, https://nullprogram.com/blog/2018/07/31)
    template <class Value>
    static Value hash(Value x) {
        x ^= x >> 16;
        x *= 0x7feb352du;
        x ^= x >> 15;
        x *= 0x846ca68bu;
        return x ^ (x >> 16);
    }

    // function(offset, 0 or 1 / (1 - p)) for `size` elements, of which the first has number `first`
    template <class Function>
    void each_vector(uint32_t place, int64_t first, int64_t size, const Function& function) const {
        const uint32_t key = hash(seed + 0x9e3779b9u * (place + 1));
        const uint32_t threshold = uint32_t(double(p) * 4294967296.0);
        const Floats rest = Floats{} + 1 / (1 - p);
        Bits number;
        for (int lane = 0; lane < LANES; lane++) number[lane] = uint32_t(first) + lane;
        for (int64_t i = 0; i < size; i += LANES, number += LANES) {
            const Bits drawn = hash(number ^ key);
            function(i, select(reinterpret_cast<Ints>(drawn >= threshold), rest, Floats{}));
        }
    }
};
