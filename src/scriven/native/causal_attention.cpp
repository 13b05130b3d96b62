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
    float *y, *logsum;  // (rows, length, heads, head_dim) and (rows, length, heads)
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
    const int width = (b.heads + 2 * b.kv_heads) * b.head_dim, out = b.heads * b.head_dim;
    const int shared = head / (b.heads / b.kv_heads);
    const float* first = b.qkv + row * b.length * width;
    const float* q = first + head * b.head_dim;
    const float* k = first + (b.heads + shared) * b.head_dim;
    const float* v = k + b.kv_heads * b.head_dim;
    const int64_t y = row * b.length * out + head * b.head_dim;
    float* logsum = b.logsum + row * b.length * b.heads + head;
    if (b.d_y) {
        attention(b).backward(q, k, width, v, width, b.y + y, b.d_y + y, out, logsum, b.heads,
                              b.d_q + y, b.d_k + y, b.d_v + y, out, scratch);
    } else {
        attention(b).forward(q, k, width, v, width, b.y + y, out, logsum, b.heads, scratch);
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
