// Memory for numbers, on pages of its own.
#pragma once

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

// Not initialised. What is large lies on huge pages where the system has them: over pages of 4 KB the
// CPU waits for the translation of addresses.
inline void* allocate(size_t bytes) {
    constexpr size_t PAGE = 1 << 12, HUGE_PAGE = 1 << 21;
    const size_t unit = bytes < HUGE_PAGE ? PAGE : HUGE_PAGE;
    const size_t room = (bytes + unit - 1) / unit * unit;
    void* memory = std::aligned_alloc(unit, room);
    if (!memory) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
    if (unit == HUGE_PAGE) madvise(memory, room, MADV_HUGEPAGE);
#endif
    return memory;
}

struct Free {
    void operator()(void* memory) const { std::free(memory); }
};

// memory that grows
class Buffer {
   public:
    float* get(int64_t size) {
        if (size > size_) {
            size_ = 0;
            data_.reset();
            data_.reset(static_cast<float*>(allocate(size * sizeof(float))));
            size_ = size;
        }
        return data_.get();
    }

   private:
    std::unique_ptr<float, Free> data_;
    int64_t size_ = 0;
};
