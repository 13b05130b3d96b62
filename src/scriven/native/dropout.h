// Dropout without a stored mask: whether an element is dropped follows from a seed and from where
// the element stands, so that the backward pass finds the same ones.
#pragma once

#include "simd.h"

struct Dropout {
    float p;        // fraction of the elements that are dropped
    uint32_t seed;  // of a step

    // of the elements at one place in the model
    class Mask {
       public:
        Mask(float p, uint32_t key)
            : key_(key), threshold_(uint32_t(double(p) * 4294967296.0)), rest_(1 / (1 - p)) {}

        // 0 or 1 / (1 - p) for LANES elements, of which the first has number `first`
        Floats factors(uint32_t first) const {
            Bits number;
            for (int lane = 0; lane < LANES; lane++) number[lane] = first + lane;
            const Bits drawn = hash(number ^ key_);
            return select(reinterpret_cast<Ints>(drawn >= threshold_), Floats{} + rest_, Floats{});
        }

       private:
        uint32_t key_, threshold_;
        float rest_;
    };

    Mask mask(uint32_t place) const { return {p, hash(seed + 0x9e3779b9u * (place + 1))}; }

    // y = x + the rest of `update`, scaled up to the same mean; rows of one place in the model
    void add_rest(uint32_t place, int64_t first, int64_t size, const float* x, const float* update,
                  float* y) const {
        const Mask kept = mask(place);
        for (int64_t i = 0; i < size; i += LANES) {
            store(y + i, load(x + i) + load(update + i) * kept.factors(uint32_t(first + i)));
        }
    }

    // y = the rest of x, scaled up; the same gives the derivative by x from that by y
    void keep_rest(uint32_t place, int64_t first, int64_t size, const float* x, float* y) const {
        const Mask kept = mask(place);
        for (int64_t i = 0; i < size; i += LANES) {
            store(y + i, load(x + i) * kept.factors(uint32_t(first + i)));
        }
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
};
