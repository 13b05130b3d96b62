// Sums of a linear layer's strips (packed_weights.h) by AMX: a strip of bfloat16 weights has two tiles side by
// side, one below the other for the next inputs. Four tiles of sums are added to in turns, as each
// addition waits for the last one to the same tile.
#pragma once

#include "amx.h"
#include "packed_weights.h"

#ifdef HAS_TILES

struct alignas(64) TileSums {
    float tiles[4][SIDE * SIDE];

    void store() {
        _tile_stored(0, tiles[0], SIDE * sizeof(float));
        _tile_stored(1, tiles[1], SIDE * sizeof(float));
        _tile_stored(2, tiles[2], SIDE * sizeof(float));
        _tile_stored(3, tiles[3], SIDE * sizeof(float));
    }

    static void clear() {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
};

// of 17 to 32 rows with one strip: tiles 0 and 1 are those of the first 16 rows, 2 and 3 those of the
// `lower` ones. `count`: pairs of inputs, a multiple of TILE_PAIRS
inline void sum_strip(const Pair* upper, const Pair* lower, const uint32_t* weights, int count,
                      TileSums& sums) {
    const int64_t row = count * sizeof(Pair), strip = STRIP * sizeof(Pair);
    TileSums::clear();
    for (int k = 0; k < count; k += TILE_PAIRS, weights += TILE_PAIRS * STRIP) {
        const uint32_t* soon = weights + 2 * TILE_PAIRS * STRIP;
        for (int i = 0; i < TILE_PAIRS * STRIP; i += SIDE) __builtin_prefetch(soon + i);
        _tile_loadd(4, upper + k, row);
        _tile_loadd(6, weights, strip);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, weights + SIDE, strip);
        _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(5, lower + k, row);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    sums.store();
}

// of up to 16 rows with two strips: tiles 0 and 1 are those of the first strip
inline void sum_strips(const Pair* x, const uint32_t* first, const uint32_t* second, int count,
                       TileSums& sums) {
    const int64_t row = count * sizeof(Pair), strip = STRIP * sizeof(Pair);
    TileSums::clear();
    for (int k = 0; k < count; k += TILE_PAIRS) {
        _tile_loadd(4, x + k, row);
        _tile_loadd(5, first + k * STRIP, strip);
        _tile_dpbf16ps(0, 4, 5);
        _tile_loadd(6, first + k * STRIP + SIDE, strip);
        _tile_dpbf16ps(1, 4, 6);
        _tile_loadd(7, second + k * STRIP, strip);
        _tile_dpbf16ps(2, 4, 7);
        _tile_loadd(5, second + k * STRIP + SIDE, strip);
        _tile_dpbf16ps(3, 4, 5);
    }
    sums.store();
}

#endif
