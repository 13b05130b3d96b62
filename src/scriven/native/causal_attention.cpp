// Causal attention of a batch, and its derivative, in float32: for models that PyTorch trains.
//
// Queries, keys and values lie side by side in one array, (rows, length, heads + 2 kv_heads,
// head_dim), and so do their derivatives. A unit of work is a row and a key/value head. The
// structure is that of causal_attention.py.
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
    float* d_qkv;
    int rows, length, heads, kv_heads, head_dim, threads;
    float scale;
};

namespace {

void attend(const AttentionBatch& b, int64_t row, int head, float* scratch) {
    const CausalAttention attention{b.length, b.head_dim, b.heads / b.kv_heads, b.scale};
    const int width = (b.heads + 2 * b.kv_heads) * b.head_dim, out = b.heads * b.head_dim;
    const int query = head * attention.group;  // the first of those that share keys and values
    const int64_t q = row * b.length * width + query * b.head_dim;
    const int64_t k = row * b.length * width + (b.heads + head) * b.head_dim;
    const int64_t v = k + b.kv_heads * b.head_dim;
    const int64_t y = row * b.length * out + query * b.head_dim;
    float* logsum = b.logsum + row * b.length * b.heads + query;
    if (b.d_y) {
        attention.backward(b.qkv + q, b.qkv + k, width, b.qkv + v, width, b.y + y, b.d_y + y, out,
                           logsum, b.heads, b.d_qkv + q, b.d_qkv + k, b.d_qkv + v, width, scratch);
    } else {
        attention.forward(b.qkv + q, b.qkv + k, width, b.qkv + v, width, b.y + y, out, logsum,
                          b.heads, scratch);
    }
}

}  // namespace

extern "C" int causal_attention(const AttentionBatch* batch) {
    try {
        const int units = batch->rows * batch->kv_heads;
        const int threads = std::max(1, std::min(batch->threads, units));
        const CausalAttention attention{batch->length, batch->head_dim, 1, batch->scale};
        std::vector<std::unique_ptr<float[]>> scratch;
        for (int n = 0; n < threads; n++) {
            scratch.push_back(std::make_unique_for_overwrite<float[]>(attention.scratch() + 64));
        }
        ThreadPool& pool = ThreadPool::of_process();
        const std::lock_guard<std::mutex> held(pool.in_use());
        std::atomic<int> next{0};
        pool.run(threads, [&](int thread) {
            for (int n = next++; n < units; n = next++) {
                attend(*batch, n / batch->kv_heads, n % batch->kv_heads, scratch[thread].get());
            }
        });
        return 0;
    } catch (...) {  // not enough memory
        return 1;
    }
}
