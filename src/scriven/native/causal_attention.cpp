// Causal attention of a batch, and its derivative: for models that PyTorch trains.
//
// Queries, keys and values lie side by side in one array, (rows, length, heads + 2 kv_heads,
// head_dim). Their derivatives are (rows, length, heads, head_dim) each: those of keys and values
// that several query heads share are summed by the caller. A unit of work is a row and a query
// head. The structure is that of causal_attention.py.
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "thread_pool.h"
#include "training_attention.h"

struct AttentionBatch {
    const float* qkv;
    float *y, *logsum;  // (rows, length, heads, head_dim) and (rows, heads, length)
    const float* d_y;   // null in the forward pass
    float *d_q, *d_k, *d_v;
    int rows, length, heads, kv_heads, head_dim, threads;
    int bfloat16;  // whether factors of products may be rounded to it
    float scale;
};

namespace {

CausalAttention attention(const AttentionBatch& b) {
    return {b.length, b.head_dim, 1, b.scale, Matmul(b.bfloat16 != 0)};
}

void attend(const AttentionBatch& b, int64_t row, int head, float* scratch) {
    const int64_t width = (b.heads + 2 * b.kv_heads) * b.head_dim, out = b.heads * b.head_dim;
    const int shared = head / (b.heads / b.kv_heads);
    const float* first = b.qkv + row * b.length * width;
    // one head at a time, so there is no next one
    const auto of_head = [&](int n) { return Heads<const float>{first + n * b.head_dim, width, 0}; };
    const auto q = of_head(head), k = of_head(b.heads + shared), v = of_head(b.heads + b.kv_heads + shared);
    const int64_t y = row * b.length * out + head * b.head_dim;
    float* logsum = b.logsum + (row * b.heads + head) * b.length;
    if (b.d_y) {
        attention(b).backward(q, k, v, {b.y + y, out, 0}, {b.d_y + y, out, 0}, logsum,
                              {b.d_q + y, out, 0}, {b.d_k + y, out, 0}, {b.d_v + y, out, 0}, scratch);
    } else {
        attention(b).forward(q, k, v, {b.y + y, out, 0}, logsum, scratch);
    }
}

}  // namespace

extern "C" int causal_attention(const AttentionBatch* batch) {
    try {
        const int units = batch->rows * batch->heads;
        const int threads = std::max(1, std::min(batch->threads, units));
        std::vector<std::unique_ptr<float[]>> scratch;
        for (int n = 0; n < threads; n++) {
            scratch.push_back(std::make_unique_for_overwrite<float[]>(attention(*batch).scratch() + 64));
        }
        ThreadPool& pool = ThreadPool::of_process();
        const std::lock_guard<std::mutex> held(pool.in_use());
        std::atomic<int> next{0};
        pool.run(threads, [&](int thread) {
            [[maybe_unused]] const Tiles tiles;
            for (int n = next++; n < units; n = next++) {
                attend(*batch, n / batch->heads, n % batch->heads, scratch[thread].get());
            }
        });
        return 0;
    } catch (...) {  // not enough memory
        return 1;
    }
}
