// One forward pass of a decoder-only transformer over a few tokens, without Python between layers.
//
// Tokens are a flat list: each has a row of the KV cache and a position there, so that single-token
// decoding of a batch, drafts of speculative decoding and prompts are the same call. Kernels are in
// linear.h and attention.h; decoder.py describes the model to `decoder_new`.
//
// Shapes in comments: N tokens, C d_model, H query heads, K key/value heads, D head_dim, F d_ff,
// V vocabulary, S capacity of the cache.
#include <exception>

#include "attention.h"
#include "linear.h"
#include "sampling.h"
#include "thread_pool.h"

enum class NormKind : int { NONE, RMS, LAYER };
// where the norm sits: nn/block.py
enum class Residual : int { PRE, POST, OUTPUT, SANDWICH, PARALLEL };

extern "C" {
struct NormWeights {
    const float* weight;
    const float* bias;
    int kind, size;
    float eps;
};

struct LinearWeights {
    const float* weight;
    const float* bias;
    int out, in;
};

struct LayerWeights {
    NormWeights attention_norm, attention_norm_after, mlp_norm, mlp_norm_after;
    NormWeights query_norm, key_norm;
    LinearWeights qkv, attention_out, gate, up, down;
    const float* cos;  // (positions, rotated), null without rotary positions
    const float* sin;
    int rotated, window, residual, activation;
    float scale, softcap;
};

struct ModelWeights {
    const LayerWeights* layers;
    const float* embedding;  // (V, C)
    const float* positions;  // (context, C) or null
    NormWeights norm;
    LinearWeights head;
    int num_layers, d_model, heads, kv_heads, head_dim, weight_type, head_type;
    float embedding_scale, logit_softcap;
};

struct Tokens {
    int count;
    const int64_t* ids;       // (N,)
    const int32_t* rows;      // (N,) row of the cache
    const int32_t* positions; // (N,)
    void* const* keys;        // of each layer, (rows, K, S, D)
    void* const* values;
    int64_t row_stride, head_stride;  // of keys and values, in numbers
    int cache_is_bfloat16;
    int num_outputs;          // tokens whose logits are wanted
    const int32_t* outputs;   // their places in the list
    float* logits;            // (num_outputs, vocab_size)
    int vocab_size;
    int num_banned;
    const int64_t* banned;    // tokens that get -inf
    int threads;
};
}

namespace {

constexpr int MAX_TOKENS = 256;  // of one pass; longer lists are read in several
constexpr float INFINITE = __builtin_inff();

struct Norm {
    NormKind kind = NormKind::NONE;
    std::vector<float> weight, bias;
    float eps = 0;

    explicit Norm(const NormWeights& from) : kind(static_cast<NormKind>(from.kind)), eps(from.eps) {
        if (from.weight) weight.assign(from.weight, from.weight + from.size);
        if (from.bias) bias.assign(from.bias, from.bias + from.size);
    }

    // sum of x_i y_i, or of x_i
    static float total(const float* x, const float* y, int size) {
        Floats sums{};
        int i = 0;
        for (; i + LANES <= size; i += LANES) sums += y ? load(x + i) * load(y + i) : load(x + i);
        float result = sum(sums);
        for (; i < size; i++) result += y ? x[i] * y[i] : x[i];
        return result;
    }

    // 1 / sqrt(mean(x^2) + eps)
    float rms_factor(const float* x, int size) const {
        return 1.0f / std::sqrt(total(x, x, size) / size + eps);
    }

    void apply(const float* x, float* y, int size) const {
        if (kind == NormKind::NONE) {
            if (x != y) std::copy_n(x, size, y);
        } else if (kind == NormKind::RMS) {
            const float factor = rms_factor(x, size);
            for (int i = 0; i < size; i++) y[i] = x[i] * factor * weight[i];
        } else {
            const float mean = total(x, nullptr, size) / size;
            for (int i = 0; i < size; i++) y[i] = x[i] - mean;
            const float factor = rms_factor(y, size);
            for (int i = 0; i < size; i++) y[i] = y[i] * factor * weight[i] + bias[i];
        }
    }
};

struct Layer {
    Norm attention_norm, attention_norm_after, mlp_norm, mlp_norm_after, query_norm, key_norm;
    Linear qkv, attention_out, gate, up, down;
    AttentionShape attention;
    const float *cos, *sin;
    int rotated;
    Residual residual;
    Activation activation;

    Layer(const LayerWeights& from, const ModelWeights& model)
        : attention_norm(from.attention_norm),
          attention_norm_after(from.attention_norm_after),
          mlp_norm(from.mlp_norm),
          mlp_norm_after(from.mlp_norm_after),
          query_norm(from.query_norm),
          key_norm(from.key_norm),
          attention{model.heads, model.kv_heads, model.head_dim,
                    from.scale,  from.softcap,   from.window},
          cos(from.cos),
          sin(from.sin),
          rotated(from.rotated),
          residual(static_cast<Residual>(from.residual)),
          activation(static_cast<Activation>(from.activation)) {
        const auto type = static_cast<WeightType>(model.weight_type);
        const auto pack = [type](Linear& to, const LinearWeights& weights) {
            if (weights.weight) to.pack(weights.weight, weights.bias, weights.out, weights.in, type);
        };
        pack(qkv, from.qkv);
        pack(attention_out, from.attention_out);
        pack(gate, from.gate);
        pack(up, from.up);
        pack(down, from.down);
    }
};

// room for some rows of floats, each as long as whole strips
class Rows {
   public:
    void resize(int rows, int columns) {
        stride = padded(columns);
        if (data_.size() < size_t(rows) * stride) data_.resize(size_t(rows) * stride);
    }
    float* operator[](int row) { return data_.data() + size_t(row) * stride; }
    int stride = 0;

   private:
    std::vector<float> data_;
};

class Decoder {
   public:
    explicit Decoder(const ModelWeights& from)
        : embedding_(from.embedding),
          positions_(from.positions),
          norm_(from.norm),
          d_model_(from.d_model),
          heads_(from.heads),
          kv_heads_(from.kv_heads),
          head_dim_(from.head_dim),
          embedding_scale_(from.embedding_scale),
          logit_softcap_(from.logit_softcap) {
        for (int n = 0; n < from.num_layers; n++) layers_.emplace_back(from.layers[n], from);
        head_.pack(from.head.weight, nullptr, from.head.out, from.head.in,
                   static_cast<WeightType>(from.head_type));
    }

    void forward(const Tokens& tokens) {
        ThreadPool& pool = ThreadPool::of_process();
        const std::lock_guard<std::mutex> lock(pool.in_use());
        int output = 0;
        for (int begin = 0; begin < tokens.count; begin += MAX_TOKENS) {
            Tokens part = tokens;
            part.count = std::min(MAX_TOKENS, tokens.count - begin);
            part.ids += begin, part.rows += begin, part.positions += begin;
            // outputs are in rising order: those of this part
            const int first = output;
            while (output < tokens.num_outputs && tokens.outputs[output] < begin + part.count) output++;
            part.outputs += first, part.num_outputs = output - first;
            part.logits += int64_t(first) * tokens.vocab_size;
            reserve(part);
            pool.run(tokens.threads, [&](int thread) {
                [[maybe_unused]] const Tiles tiles(part.count);
                pass(part, begin, pool, thread);
            });
        }
    }

   private:
    int qkv_size() const { return (heads_ + 2 * kv_heads_) * head_dim_; }

    void reserve(const Tokens& tokens) {
        const int count = tokens.count, threads = tokens.threads;
        int d_ff = 0, longest = 0;
        for (const Layer& layer : layers_) d_ff = std::max(d_ff, layer.up.out);
        for (int n = 0; n < count; n++) longest = std::max(longest, tokens.positions[n] + 1);
        x_.resize(count, d_model_);
        y_.resize(count, d_model_);
        qkv_.resize(count, qkv_size());
        attended_.resize(count, heads_ * head_dim_);
        gate_.resize(count, d_ff);
        up_.resize(count, d_ff);
        logits_.resize(tokens.num_outputs, head_.out);
        scores_.resize(threads, longest);
        normed_.resize(threads);
        for (Rows& rows : normed_) rows.resize(count, d_model_);
    }

    void pass(const Tokens& tokens, int first, ThreadPool& pool, int thread) {
        const int count = tokens.count, threads = tokens.threads;
        // 1. embeddings
        const Part own(count, thread, threads);
        for (int n = own.begin; n < own.end; n++) embed(tokens, n);
        pool.barrier();
        // 2. the blocks
        for (size_t number = 0; number < layers_.size(); number++) {
            const Layer& layer = layers_[number];
            attention(layer, tokens, number, pool, thread);
            feed_forward(layer, tokens, pool, thread);
        }
        // 3. the last norm, and logits of the tokens whose are wanted
        const int outputs = tokens.num_outputs;
        if (outputs == 0) return;
        Rows& normed = normed_[thread];
        for (int n = 0; n < outputs; n++) {
            norm_.apply(x_[tokens.outputs[n] - first], normed[n], d_model_);
        }
        const Part strips(head_.strips(), thread, threads);
        head_.multiply(normed[0], normed.stride, logits_[0], logits_.stride, outputs, strips);
        write_logits(tokens, strips.begin * STRIP, strips.end * STRIP);
    }

    void embed(const Tokens& tokens, int n) {
        const float* vector = embedding_ + tokens.ids[n] * d_model_;
        const float* position = positions_ ? positions_ + int64_t(tokens.positions[n]) * d_model_ : nullptr;
        float* x = x_[n];
        for (int i = 0; i < d_model_; i++) {
            x[i] = vector[i] * embedding_scale_ + (position ? position[i] : 0.0f);
        }
    }

    // the input of a sublayer, in memory of this thread
    Rows& sublayer_input(const Layer& layer, const Norm& norm, int count, int thread) {
        const bool is_normed = layer.residual != Residual::POST && layer.residual != Residual::OUTPUT;
        if (!is_normed) return x_;
        for (int n = 0; n < count; n++) norm.apply(x_[n], normed_[thread][n], d_model_);
        return normed_[thread];
    }

    // adds what a sublayer gave, y_, to the residual stream x_, where the product has not done so
    void add_output(const Layer& layer, const Norm& norm, const Norm& after, int count,
                    ThreadPool& pool, int thread, int threads) {
        if (layer.residual != Residual::PRE) {
            const Part own(count, thread, threads);
            for (int n = own.begin; n < own.end; n++) {
                float *x = x_[n], *y = y_[n];
                if (layer.residual == Residual::OUTPUT) norm.apply(y, y, d_model_);
                if (layer.residual == Residual::SANDWICH) after.apply(y, y, d_model_);
                for (int i = 0; i < d_model_; i++) x[i] += y[i];
                if (layer.residual == Residual::POST) norm.apply(x, x, d_model_);
            }
            pool.barrier();
        }
    }

    void attention(const Layer& layer, const Tokens& tokens, size_t number, ThreadPool& pool,
                   int thread) {
        const int count = tokens.count, threads = tokens.threads;
        // 1. queries, keys and values                                  (N, (H + 2 K) D)
        Rows& input = sublayer_input(layer, layer.attention_norm, count, thread);
        layer.qkv.multiply(input[0], input.stride, qkv_[0], qkv_.stride, count,
                           Part(layer.qkv.strips(), thread, threads));
        pool.barrier();
        // 2. norms and rotations; keys and values into the cache
        if (norms_all_heads(layer)) {
            const Part own(count, thread, threads);
            for (int n = own.begin; n < own.end; n++) {
                float *queries = qkv_[n], *keys = queries + heads_ * head_dim_;
                layer.query_norm.apply(queries, queries, heads_ * head_dim_);
                layer.key_norm.apply(keys, keys, kv_heads_ * head_dim_);
            }
            pool.barrier();
        }
        const int all_heads = heads_ + 2 * kv_heads_;
        const Part heads(count * all_heads, thread, threads);
        for (int item = heads.begin; item < heads.end; item++) {
            write_head(layer, tokens, number, item / all_heads, item % all_heads);
        }
        pool.barrier();
        // 3. attention, a key/value head of a token at a time          (N, H D)
        const Part items(count * kv_heads_, thread, threads);
        const int group = heads_ / kv_heads_;
        const auto place = [&](int item) {  // of its keys and values
            return tokens.rows[item / kv_heads_] * tokens.row_stride +
                   item % kv_heads_ * tokens.head_stride;
        };
        for (int item = items.begin; item < items.end; item++) {
            const int n = item / kv_heads_, kv_head = item % kv_heads_;
            const int64_t at = place(item), next = place(std::min(item + 1, items.end - 1));
            const float* queries = qkv_[n] + kv_head * group * head_dim_;
            float* y = attended_[n] + kv_head * group * head_dim_;
            const auto run = [&](auto* keys, auto* values) {
                attend(layer.attention, queries, keys + at, values + at, keys + next, tokens.positions[n],
                       scores_[thread], y);
            };
            if (tokens.cache_is_bfloat16) {
                run(static_cast<const uint16_t*>(tokens.keys[number]),
                    static_cast<const uint16_t*>(tokens.values[number]));
            } else {
                run(static_cast<const float*>(tokens.keys[number]),
                    static_cast<const float*>(tokens.values[number]));
            }
        }
        pool.barrier();
        // 4. out                                                        (N, C)
        const bool add = layer.residual == Residual::PRE;
        Rows& to = add ? x_ : y_;
        layer.attention_out.multiply(attended_[0], attended_.stride, to[0], to.stride, count,
                                     Part(layer.attention_out.strips(), thread, threads), add);
        if (layer.residual == Residual::PARALLEL) return;  // the MLP reads x_, not the sum
        pool.barrier();
        add_output(layer, layer.attention_norm, layer.attention_norm_after, count, pool, thread,
                   threads);
    }

    // whether the norm of queries is over all heads together (OLMo 2), not over each
    bool norms_all_heads(const Layer& layer) const {
        return layer.query_norm.kind != NormKind::NONE &&
               int(layer.query_norm.weight.size()) != head_dim_;
    }

    // norm and rotation of one head of one token: queries in place, keys and values into the cache
    void write_head(const Layer& layer, const Tokens& tokens, size_t number, int n, int head) {
        float* from = qkv_[n] + head * head_dim_;
        const bool is_query = head < heads_, is_key = !is_query && head < heads_ + kv_heads_;
        if (is_query || is_key) {
            const Norm& norm = is_query ? layer.query_norm : layer.key_norm;
            if (!norms_all_heads(layer)) norm.apply(from, from, head_dim_);
            if (layer.cos) rotate(layer, tokens.positions[n], from);
        }
        if (is_query) return;
        const int kv_head = (head - heads_) % kv_heads_;
        const int64_t at = tokens.rows[n] * tokens.row_stride + kv_head * tokens.head_stride +
                           int64_t(tokens.positions[n]) * head_dim_;
        void* cache = is_key ? tokens.keys[number] : tokens.values[number];
        if (tokens.cache_is_bfloat16) {
            for (int i = 0; i < head_dim_; i++) convert(from[i], static_cast<uint16_t*>(cache) + at + i);
        } else {
            std::copy_n(from, head_dim_, static_cast<float*>(cache) + at);
        }
    }

    // (x1, x2) -> (x1 cos - x2 sin, x2 cos + x1 sin); the minus is in the table
    static void rotate(const Layer& layer, int position, float* x) {
        const int half = layer.rotated / 2;
        const float* cos = layer.cos + int64_t(position) * layer.rotated;
        const float* sin = layer.sin + int64_t(position) * layer.rotated;
        for (int i = 0; i < half; i++) {
            const float first = x[i], second = x[half + i];
            x[i] = first * cos[i] + second * sin[i];
            x[half + i] = second * cos[half + i] + first * sin[half + i];
        }
    }

    void feed_forward(const Layer& layer, const Tokens& tokens, ThreadPool& pool, int thread) {
        const int count = tokens.count, threads = tokens.threads;
        // 1. up, and the gate where there is one; each thread goes on with its own columns (N, F)
        Rows& input = sublayer_input(layer, layer.mlp_norm, count, thread);
        const Part strips(layer.up.strips(), thread, threads);
        const bool is_gated = layer.gate.out > 0;
        layer.up.multiply(input[0], input.stride, up_[0], up_.stride, count, strips);
        if (is_gated) layer.gate.multiply(input[0], input.stride, gate_[0], gate_.stride, count, strips);
        // 2. activation
        for (int n = 0; n < count; n++) {
            for (int i = strips.begin * STRIP; i < strips.end * STRIP; i += LANES) {
                const Floats up = load(up_[n] + i);
                const Floats y = is_gated ? activate(layer.activation, load(gate_[n] + i)) * up
                                          : activate(layer.activation, up);
                store(up_[n] + i, y);
            }
        }
        pool.barrier();
        // 3. down                                                       (N, C)
        const bool is_pre = layer.residual == Residual::PRE;
        Rows& to = is_pre ? x_ : y_;
        layer.down.multiply(up_[0], up_.stride, to[0], to.stride, count,
                            Part(layer.down.strips(), thread, threads),
                            is_pre || layer.residual == Residual::PARALLEL);
        pool.barrier();
        add_output(layer, layer.mlp_norm, layer.mlp_norm_after, count, pool, thread, threads);
    }

    // the columns [begin, end) of the logits, to the caller
    void write_logits(const Tokens& tokens, int begin, int end) {
        end = std::min(end, tokens.vocab_size);
        for (int n = 0; n < tokens.num_outputs; n++) {
            const float* from = logits_[n];
            float* to = tokens.logits + int64_t(n) * tokens.vocab_size;
            for (int i = begin; i < end; i++) {
                to[i] = logit_softcap_ > 0 ? std::tanh(from[i] / logit_softcap_) * logit_softcap_ : from[i];
            }
            for (int i = 0; i < tokens.num_banned; i++) {
                const int64_t token = tokens.banned[i];
                if (begin <= token && token < end) to[token] = -INFINITE;
            }
        }
    }

    std::vector<Layer> layers_;
    const float *embedding_, *positions_;
    Norm norm_;
    Linear head_;
    int d_model_, heads_, kv_heads_, head_dim_;
    float embedding_scale_, logit_softcap_;
    Rows x_, y_, qkv_, attended_, gate_, up_, logits_, scores_;
    std::vector<Rows> normed_;
};

}  // namespace

extern "C" {
// null where memory does not suffice
Decoder* decoder_new(const ModelWeights* model) {
    try {
        return new Decoder(*model);
    } catch (const std::bad_alloc&) {
        return nullptr;
    }
}

void decoder_delete(Decoder* decoder) { delete decoder; }

// 0, or 1 where memory or threads do not suffice
int decoder_forward(Decoder* decoder, const Tokens* tokens) {
    try {
        decoder->forward(*tokens);
        return 0;
    } catch (const std::exception&) {  // also of the system, which gives no more threads
        return 1;
    }
}

void sample(const float* logits, int rows, int vocab_size, const Sampling* settings, int64_t* tokens) {
    draw_each(logits, rows, vocab_size, settings, tokens);
}

// Reads the last token of each row and draws `steps` more, one after the other; fewer where a row
// draws one of the tokens that end a text, or has no finite logit (-1). Each step has its own random
// number for each row, (rows, steps), and fills a row of `drawn`, (steps, rows).
// Returns the steps that were made, or -1 where memory or threads do not suffice.
int decoder_generate(Decoder* decoder, const Tokens* tokens, Sampling* settings, const double* uniforms,
                     int steps, const int64_t* ends, int num_ends, int64_t* drawn) {
    try {
        const int rows = tokens->count;
        std::vector<int32_t> positions(tokens->positions, tokens->positions + rows);
        Tokens own = *tokens;
        own.positions = positions.data();
        for (int step = 0; step < steps; step++, drawn += rows) {
            if (decoder_forward(decoder, &own)) return -1;
            for (int row = 0; row < rows; row++) settings[row].uniform = uniforms[row * steps + step];
            draw_each(own.logits, rows, own.vocab_size, settings, drawn);
            for (int row = 0; row < rows; row++) {
                if (drawn[row] < 0 || std::find(ends, ends + num_ends, drawn[row]) != ends + num_ends) {
                    return step + 1;
                }
                positions[row]++;
            }
            own.ids = drawn;
        }
        return steps;
    } catch (const std::exception&) {
        return -1;
    }
}
}
