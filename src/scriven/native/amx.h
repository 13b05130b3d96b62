// The tiles of AMX: registers of up to 16 rows with 64 bytes each. One instruction adds the products
// of 16 rows and 16 columns, of 16 pairs of bfloat16 each, to 16 x 16 sums.
#pragma once

#include "simd.h"

#if defined(HAS_PAIRS) && defined(__AMX_BF16__) && defined(__linux__)
#define HAS_TILES 1

#include <sys/syscall.h>
#include <unistd.h>

constexpr int SIDE = 16;        // most rows of a tile, and columns of its sums
constexpr int TILE_PAIRS = 16;  // that an instruction adds up

// While a thread holds one, its products may use tiles. Nothing else that does, such as PyTorch, may
// run in the thread meanwhile.
class Tiles {
   public:
    explicit Tiles(int rows = 2 * SIDE) {
        if (allowed()) shape(std::clamp(rows, 1, 2 * SIDE));
    }
    ~Tiles() {
        if (rows_) _tile_release();
        rows_ = 0;
    }
    Tiles(const Tiles&) = delete;
    Tiles& operator=(const Tiles&) = delete;

    // Shapes the tiles for some rows of the first factor, at most 32. Of up to 16 rows 0 to 3 are
    // sums, 4 of the first factor, 5 to 7 of the second; of more, 2 and 3 are the sums of the rows
    // from the 17th on, and 5 are those rows.
    static void shape(int rows) {
        if (rows_ == rows) return;
        struct alignas(64) {
            uint8_t palette = 1, start = 0, reserved[14] = {};
            uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};  // of a row
            uint8_t rows[16] = {};
        } shapes;
        const uint8_t upper = rows < SIDE ? rows : SIDE, lower = rows - upper;
        const uint8_t wanted[] = {upper, upper, lower ? lower : upper, lower ? lower : upper,
                                  upper, lower ? lower : uint8_t(SIDE), SIDE, SIDE};
        std::copy_n(wanted, 8, shapes.rows);
        _tile_loadconfig(&shapes);
        rows_ = rows;
    }

    static bool held() { return rows_ > 0; }

    // Linux saves tiles only for processes that ask for it
    static bool allowed() {
        constexpr int REQUEST_PERMISSION = 0x1023, TILE_DATA = 18;
        static const bool granted = syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
        return granted;
    }

   private:
    static inline thread_local int rows_ = 0;
};

#else

// nothing to hold
struct Tiles {
    explicit Tiles(int = 0) {}
};

#endif
