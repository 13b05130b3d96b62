// The types of a linear layer's weights: how many share a lane of 32 bits, where each is in it, and
// the inputs that they are multiplied with.
#pragma once

#include "rounded_inputs.h"

enum class WeightType : int { FLOAT32, BFLOAT16, INT8, INT4 };

// inputs whose weights share a lane
constexpr int per_lane(WeightType type) {
    return type == WeightType::FLOAT32 ? 1
           : type == WeightType::BFLOAT16 ? 2
           : type == WeightType::INT8 ? 4
                                      : 8;
}

constexpr bool has_scales(WeightType type) {
    return type == WeightType::INT8 || type == WeightType::INT4;
}

#ifdef HAS_BYTES
constexpr int INT4_OFFSET = 8;
#else
constexpr int INT4_OFFSET = 0;
#endif

// what a byte of the weights behind the last input or output is: zeros
constexpr int zero_byte(WeightType type) {
    return type == WeightType::INT8 ? BYTE_OFFSET : type == WeightType::INT4 ? INT4_OFFSET * 0x11 : 0;
}

// where the bits of a weight are in its lane: of eight int4 weights, 0 to 3 are the low nibbles of
// the four bytes and 4 to 7 the high nibbles, so that four inputs meet four bytes
constexpr int place(WeightType type, int number) {
    return type == WeightType::INT4 ? number % 4 * 2 + number / 4 : number;
}

// weight `number` of a lane, but for its scale
template <WeightType TYPE>
inline Floats unpack(Ints lanes, int number) {
    if constexpr (TYPE == WeightType::FLOAT32) {
        return reinterpret_cast<Floats>(lanes);
    } else if constexpr (TYPE == WeightType::BFLOAT16) {
        return reinterpret_cast<Floats>(number ? lanes & int(0xffff0000u) : lanes << 16);
    } else {  // the sign is that of the leftmost bit
        constexpr int bits = 32 / per_lane(TYPE);
        const int above = 32 - bits * (place(TYPE, number) + 1);
        return __builtin_convertvector(lanes << above >> (32 - bits), Floats);
    }
}

// how the inputs of a layer are rounded and kept, by the type of its weights
template <WeightType TYPE>
struct InputsFor {
    typedef FloatRows type;
};
#ifdef HAS_PAIRS
template <>
struct InputsFor<WeightType::BFLOAT16> {
    typedef PairRows type;
};
#endif
#ifdef HAS_BYTES
template <>
struct InputsFor<WeightType::INT8> {
    typedef ByteRows type;
};
template <>
struct InputsFor<WeightType::INT4> {
    typedef ByteRows type;
};
#endif
template <WeightType TYPE>
using InputsOf = typename InputsFor<TYPE>::type;
