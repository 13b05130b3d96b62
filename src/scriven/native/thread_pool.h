// Threads that run one function together, and the barrier between its phases.
//
// A decoding step has about thirty phases of some microseconds, so threads wait by spinning, for a
// while also between steps; then they give their core away, and at last they sleep.
#pragma once

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <mutex>
#include <thread>

inline void spin_pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

class ThreadPool {
   public:
    // the threads of this process; a child after fork has none of its parent's
    static ThreadPool& of_process() {
        static std::atomic<ThreadPool*> pool{nullptr};
        ThreadPool* found = pool.load();
        while (!found || found->process_ != getpid()) {
            ThreadPool* made = new ThreadPool;  // stays: its threads end with the process
            if (pool.compare_exchange_strong(found, made)) return *made;
            delete made;  // another thread was faster: `found` is its pool
        }
        return *found;
    }

    // held for a whole step: one at a time uses the threads
    std::mutex& in_use() { return in_use_; }

    // function(thread) on `threads` threads, the caller's own included; a thread that waits for the
    // others gives its core away after `spins` rounds
    void run(int threads, const std::function<void(int)>& function, int spins = SPINS) {
        threads_ = threads;
        spins_ = spins;
        if (threads == 1) return function(0);
        while (started_ < threads - 1) {
            std::thread(&ThreadPool::work, this, started_ + 1, generation_.load()).detach();
            started_++;
        }
        function_ = &function;
        left_.store(started_);  // also threads that have nothing to do must have seen it
        generation_.fetch_add(1);
        generation_.notify_all();
        function(0);
        wait_until([this] { return left_.load(std::memory_order_acquire) == 0; });
    }

    // returns when all threads of `run` are here
    void barrier() {
        if (threads_ == 1) return;
        const int phase = phase_.load(std::memory_order_relaxed);
        if (arrived_.fetch_add(1, std::memory_order_acq_rel) == threads_ - 1) {
            arrived_.store(0, std::memory_order_relaxed);
            phase_.store(phase + 1, std::memory_order_release);
        } else {
            wait_until([&] { return phase_.load(std::memory_order_acquire) != phase; });
        }
    }

   private:
    static constexpr int SPINS = 2000;  // about 50 microseconds, longer than any phase is late
    static constexpr auto AWAKE = std::chrono::microseconds(300);  // between two steps

    template <class Condition>
    void wait_until(const Condition& is_met) const {
        for (int spin = 0, spins = spins_; !is_met(); spin++) {
            if (spin < spins) {
                spin_pause();
            } else {
                std::this_thread::yield();
            }
        }
    }

    void work(int thread, uint32_t done) {
        while (true) {
            // 1. wait for the next function
            uint32_t next = generation_.load(std::memory_order_acquire);
            const auto begin = std::chrono::steady_clock::now();
            for (int spin = 0; next == done; spin++) {
                if (spin < SPINS) {
                    spin_pause();
                } else if (std::chrono::steady_clock::now() - begin < AWAKE) {
                    std::this_thread::yield();
                } else {
                    generation_.wait(done, std::memory_order_acquire);
                }
                next = generation_.load(std::memory_order_acquire);
            }
            done = next;
            // 2. run it, if it is for so many threads
            if (thread < threads_) (*function_)(thread);
            left_.fetch_sub(1, std::memory_order_release);
        }
    }

    const pid_t process_ = getpid();
    std::mutex in_use_;
    int started_ = 0;
    int threads_ = 1;
    int spins_ = SPINS;
    const std::function<void(int)>* function_ = nullptr;
    alignas(64) std::atomic<uint32_t> generation_{0};
    alignas(64) std::atomic<int> left_{0};
    alignas(64) std::atomic<int> arrived_{0};
    alignas(64) std::atomic<int> phase_{0};
};
