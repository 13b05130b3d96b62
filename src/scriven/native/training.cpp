// Loss and gradients of a decoder such as Llama, in float32: one call for the forward and the
// backward pass over a batch. The factors of products with weights, and of their gradients, are
// rounded to bfloat16 where a batch asks for it, as PyTorch's autocast does.
//
// Threads divide the positions among them and keep sums of their own for the gradients of weights;
// they wait for each other only around attention, whose units are a row and a key/value head. So
// results depend on the number of threads, in the last digits, and on nothing else.
//
// The structures are those of training.py.
#include <cstdio>
#include <vector>

#include "dropout.h"
#include "gemm_bf16.h"
#include "thread_pool.h"
#include "training_attention.h"
#include "training_layers.h"

// positions that go through a layer together, so that what lies between its parts stays in a cache
constexpr int CHUNK = 128;

// about a millisecond: phases are that long, and what another program gets is lost for both threads
constexpr int PATIENCE = 40000;

struct LayerWeights {
    const float *attention_norm, *qkv, *query_norm, *key_norm, *out, *mlp_norm, *gate_up, *down;
};

struct TrainedModel {
    const LayerWeights* layers;
    const float *embedding, *norm, *head;  // head: null where it is the embedding
    const float *cos, *sin;                // (positions, head_dim)
    int num_layers, d_model, heads, kv_heads, head_dim, d_ff, vocab_size;
    float eps, scale;

    int q_size() const { return heads * head_dim; }
    int rotated_heads() const { return heads + kv_heads; }
    int qkv_size() const { return (heads + 2 * kv_heads) * head_dim; }
};

struct TrainingBatch {
    const int64_t *tokens, *targets;  // (rows, length)
    int rows, length, threads;
    int bfloat16;  // whether products may be rounded to it for gradients
    Dropout dropout;  // of what attention and feed-forward layers add to x, while gradients are made
    // of all weights, in the order of their names above, layer by layer; null: the loss alone
    float* gradients;
    double loss;       // summed over the targets
    int64_t correct;
};

// where the gradients of a layer are
struct LayerGradients {
    float *attention_norm, *qkv, *query_norm, *key_norm, *out, *mlp_norm, *gate_up, *down;
};

struct Gradients {
    std::vector<LayerGradients> layers;
    float *embedding, *norm, *head;
    int64_t size;

    Gradients() = default;
    Gradients(const TrainedModel& m, float* memory) {
        float* next = memory;
        const auto take = [&next](const void* weight, int64_t count) {
            float* found = next;
            if (weight) next += count;
            return found;
        };
        const int64_t d = m.d_model;
        for (int n = 0; n < m.num_layers; n++) {
            const LayerWeights& w = m.layers[n];
            LayerGradients g;
            g.attention_norm = take(w.attention_norm, d);
            g.qkv = take(w.qkv, d * m.qkv_size());
            g.query_norm = take(w.query_norm, m.head_dim);
            g.key_norm = take(w.key_norm, m.head_dim);
            g.out = take(w.out, d * m.q_size());
            g.mlp_norm = take(w.mlp_norm, d);
            g.gate_up = take(w.gate_up, d * 2 * m.d_ff);
            g.down = take(w.down, d * m.d_ff);
            layers.push_back(g);
        }
        embedding = take(m.embedding, d * m.vocab_size);
        norm = take(m.norm, d);
        head = m.head ? take(m.head, d * m.vocab_size) : embedding;
        size = next - memory;
    }
};

// a matrix (out, in) packed for x W^T and for y W
struct PackedMatrix {
    Buffer forward_, backward_;
    float *forward, *backward;

    void allocate(int out, int in) {
        forward = forward_.get(int64_t(in_panels(out)) * in);
        backward = backward_.get(int64_t(in_panels(in)) * out);
    }
    void pack_from(const float* weight, int out, int in) {
        pack_transposed(weight, in, in, out, forward);
        pack(weight, in, out, in, backward);
    }
#ifdef HAS_PAIRS
    void pack_rounded(const float* weight, int out, int in, Pair* room) {
        pack_pairs_transposed(weight, in, in, out, as_pairs(forward), room);
        pack_pairs(weight, in, out, in, as_pairs(backward));
    }
#endif
};

struct PackedLayer {
    PackedMatrix qkv, out, gate_up, down;
};

// what the backward pass needs of a layer, a row for each position
struct Kept {
    Buffer x_, qkv_, rotated_, y_, logsum_, middle_, gate_up_;
    float *x, *qkv, *rotated, *y, *logsum, *middle, *gate_up;
};

class Training {
   public:
    explicit Training(const TrainedModel& model)
        : m_(model),
          layers_(model.layers, model.layers + model.num_layers),
          packed_(model.num_layers),
          kept_(model.num_layers) {
        m_.layers = layers_.data();
    }

    void step(TrainingBatch& batch) {
        ThreadPool& pool = ThreadPool::of_process();
        const std::lock_guard<std::mutex> held(pool.in_use());
        batch_ = &batch;
        positions_ = batch.rows * batch.length;
        const int units = batch.rows * m_.kv_heads;
        threads_ = std::max(1, std::min(batch.threads, units));
        allocate();
        pool.run(threads_, [&](int thread) { run(pool, thread); }, PATIENCE);
        batch.loss = 0, batch.correct = 0;
        for (const Own& own : own_) batch.loss += own.loss, batch.correct += own.correct;
    }

   private:
    // of one thread
    struct Own {
        Buffer gradients_, scratch_, rounded_;
        Gradients gradients;
        float* scratch;
        Pair* rounded;  // the factors of a product
        double loss;
        int64_t correct;
    };

    CausalAttention attention() const {
        return {batch_->length, m_.head_dim, m_.heads / m_.kv_heads, m_.scale, rounds()};
    }

    void allocate() {
        const int64_t n = positions_, d = m_.d_model;
        for (int layer = 0; layer < (learns() ? m_.num_layers : 1); layer++) {
            Kept& k = kept_[layer];
            k.x = k.x_.get(n * d);
            k.qkv = k.qkv_.get(n * m_.qkv_size());
            k.rotated = k.rotated_.get(n * m_.rotated_heads() * m_.head_dim);
            k.y = k.y_.get(n * m_.q_size());
            k.logsum = k.logsum_.get(n * m_.heads);
            k.middle = k.middle_.get(n * d);
            k.gate_up = k.gate_up_.get(n * 2 * m_.d_ff);
        }
        for (PackedLayer& packed : packed_) {
            packed.qkv.allocate(m_.qkv_size(), m_.d_model);
            packed.out.allocate(m_.d_model, m_.q_size());
            packed.gate_up.allocate(2 * m_.d_ff, m_.d_model);
            packed.down.allocate(m_.d_model, m_.d_ff);
        }
        head_weight_.allocate(m_.vocab_size, m_.d_model);
        x_ = last_.get(n * d), d_x_ = d_last_.get(n * d);
        d_y_ = d_output_.get(n * m_.q_size()), d_qkv_ = d_projected_.get(n * m_.qkv_size());
        // what `score` and `feed_forward_backward` hold of a chunk
        const int64_t f = m_.d_ff, widest = std::max({d, f, int64_t(m_.q_size())});
        const int64_t local = CHUNK * (3 * d + std::max(d, f) + 3 * f + in_panels(m_.vocab_size) +
                                       in_panels(int(widest)) + TILE_ROWS);
        own_.resize(threads_);
        for (int thread = 0; thread < threads_; thread++) {
            Own& own = own_[thread];
            if (learns()) {
                const int64_t size = Gradients(m_, nullptr).size;
                own.gradients = Gradients(m_, thread ? own.gradients_.get(size) : batch_->gradients);
            }
            own.scratch = own.scratch_.get(std::max(local, attention().scratch()));
            if (rounds()) {
                const int most = std::max({2 * m_.d_ff, m_.qkv_size(), m_.vocab_size, m_.d_model});
                own.rounded = as_pairs(own.rounded_.get(int64_t(CHUNK) * in_panels(most)));
            }
        }
    }

    void run(ThreadPool& pool, int thread) {
        Own& own = own_[thread];
        own.loss = 0, own.correct = 0;
        if (learns()) std::fill_n(base(own), own.gradients.size, 0.0f);
        pack_weights(thread, own);
        const Span mine = part(positions_, thread);
        embed(mine);
        pool.barrier();
        for (int n = 0; n < m_.num_layers; n++) {
            each_chunk(mine, [&](Span chunk) { project(n, chunk, own); });
            pool.barrier();
            attend(n, thread, own);
            pool.barrier();
            each_chunk(mine, [&](Span chunk) { feed_forward(n, chunk, own); });
        }
        each_chunk(mine, [&](Span chunk) { score(chunk, own); });
        if (!learns()) return;
        for (int n = m_.num_layers; n-- > 0;) {
            each_chunk(mine, [&](Span chunk) { feed_forward_backward(n, chunk, own); });
            pool.barrier();
            attend_backward(n, thread, own);
            pool.barrier();
            each_chunk(mine, [&](Span chunk) { project_backward(n, chunk, own); });
        }
        for (int i = mine.begin; i < mine.end; i++) {
            float* to = own.gradients.embedding + batch_->tokens[i] * m_.d_model;
            add(d_x_ + int64_t(i) * m_.d_model, to, m_.d_model);
        }
        pool.barrier();
        add_gradients(thread);
    }

    struct Span {
        int begin, end;
        int size() const { return end - begin; }
    };

    Span part(int64_t count, int thread) const {
        return {int(count * thread / threads_), int(count * (thread + 1) / threads_)};
    }

    template <class Function>
    static void each_chunk(Span mine, const Function& function) {
        const int pieces = (mine.size() + CHUNK - 1) / CHUNK;
        for (int64_t n = 0; n < pieces; n++) {
            function(Span{mine.begin + int(mine.size() * n / pieces),
                          mine.begin + int(mine.size() * (n + 1) / pieces)});
        }
    }

    static float* base(Own& own) {
        return own.gradients.layers.empty() ? own.gradients.embedding
                                            : own.gradients.layers[0].attention_norm;
    }

    static void add(const float* from, float* to, int64_t size) {
        for (int64_t i = 0; i < size; i += LANES) store(to + i, load(to + i) + load(from + i));
    }

    // the matrices in turns
    void pack_weights(int thread, Own& own) {
        int number = 0;
        const auto pack = [&](PackedMatrix& packed, const float* weight, int out, int in) {
            if (number++ % threads_ != thread) return;
#ifdef HAS_PAIRS
            if (rounds()) return packed.pack_rounded(weight, out, in, own.rounded);
#endif
            packed.pack_from(weight, out, in);
        };
        for (int n = 0; n < m_.num_layers; n++) {
            const LayerWeights& w = m_.layers[n];
            PackedLayer& packed = packed_[n];
            pack(packed.qkv, w.qkv, m_.qkv_size(), m_.d_model);
            pack(packed.gate_up, w.gate_up, 2 * m_.d_ff, m_.d_model);
            pack(packed.out, w.out, m_.d_model, m_.q_size());
            pack(packed.down, w.down, m_.d_model, m_.d_ff);
        }
        pack(head_weight_, head(), m_.vocab_size, m_.d_model);
    }

    const float* head() const { return m_.head ? m_.head : m_.embedding; }

    void embed(Span mine) {
        float* x = stream(0);
        for (int i = mine.begin; i < mine.end; i++) {
            std::copy_n(m_.embedding + batch_->tokens[i] * m_.d_model, m_.d_model,
                        x + int64_t(i) * m_.d_model);
        }
    }

    bool learns() const { return batch_->gradients != nullptr; }

    bool drops() const { return learns() && batch_->dropout.p > 0; }

    bool rounds() const {
#ifdef HAS_PAIRS
        return learns() && batch_->bfloat16;
#else
        return false;
#endif
    }

    // C (rows, columns) = A B, or C += A B, for a weight B
    void product(const float* a, int a_stride, const float* packed, float* c, int c_stride, int rows,
                 int columns, int depth, bool add, Own& own) const {
#ifdef HAS_PAIRS
        if (rounds()) {
            round_along(a, a_stride, rows, depth, own.rounded);
            return multiply<Read::ALONG>(own.rounded, pair_stride(depth),
                                         as_pairs(packed), c, c_stride, rows,
                                         columns, pairs(depth), add);
        }
#endif
        multiply<Read::ALONG>(a, a_stride, packed, c, c_stride, rows, columns, depth, add);
    }

    // the gradient of a weight (rows, columns) += A^T B
    void add_gradient(const float* a, int a_stride, const float* b, int b_stride, float* gradient,
                      int rows, int columns, int depth, float* packed, Own& own) const {
#ifdef HAS_PAIRS
        if (rounds()) {
            return add_rounded_outer_products(a, a_stride, b, b_stride, gradient, columns, rows,
                                              columns, depth, own.rounded);
        }
#endif
        add_outer_products(a, a_stride, b, b_stride, gradient, columns, rows, columns, depth, packed);
    }

    // of layer `n`; without a backward pass all layers share the memory of one
    Kept& kept(int n) { return kept_[learns() ? n : 0]; }

    // the residual stream before layer `n`
    float* stream(int n) { return n < m_.num_layers ? kept(n).x : x_; }

    void norm(const float* x, const float* weight, float* y, Span chunk) const {
        for (int i = 0; i < chunk.size(); i++) {
            rms_norm(x + int64_t(chunk.begin + i) * m_.d_model, weight, y + int64_t(i) * m_.d_model,
                     m_.d_model, m_.eps);
        }
    }

    // d_x += the derivative through a norm of x
    void norm_backward(const float* x, const float* weight, const float* d_y, float* d_weight,
                       Span chunk) {
        for (int i = 0; i < chunk.size(); i++) {
            const int64_t row = int64_t(chunk.begin + i) * m_.d_model;
            rms_norm_backward<true>(x + row, weight, d_y + int64_t(i) * m_.d_model, d_x_ + row,
                                    d_weight, m_.d_model, m_.eps);
        }
    }

    void project(int n, Span chunk, Own& own) {
        Kept& k = kept(n);
        const LayerWeights& w = m_.layers[n];
        const int size = m_.head_dim, width = m_.qkv_size(), kept = m_.rotated_heads() * size;
        float* h = own.scratch;
        norm(k.x, w.attention_norm, h, chunk);
        product(h, m_.d_model, packed_[n].qkv.forward, k.qkv + int64_t(chunk.begin) * width, width,
                chunk.size(), width, m_.d_model, false, own);
        float* normed = own.scratch;
        for (int i = chunk.begin; i < chunk.end; i++) {
            const int64_t position = int64_t(i % batch_->length) * size;
            for (int head = 0; head < m_.rotated_heads(); head++) {
                const float* from = k.qkv + int64_t(i) * width + head * size;
                const float* factor = head < m_.heads ? w.query_norm : w.key_norm;
                if (factor) {
                    rms_norm(from, factor, normed, size, m_.eps);
                    from = normed;
                }
                rotate(from, m_.cos + position, m_.sin + position,
                       k.rotated + int64_t(i) * kept + head * size, size / 2);
            }
        }
    }

    // function(first position of a row, key/value head) for the units of a thread
    template <class Function>
    void each_unit(int thread, const Function& function) {
        const Span mine = part(int64_t(batch_->rows) * m_.kv_heads, thread);
        for (int unit = mine.begin; unit < mine.end; unit++) {
            function(int64_t(unit / m_.kv_heads) * batch_->length, unit % m_.kv_heads);
        }
    }

    void attend(int n, int thread, Own& own) {
        Kept& k = kept(n);
        const int size = m_.head_dim, group = m_.heads / m_.kv_heads;
        const int kept = m_.rotated_heads() * size, width = m_.qkv_size();
        each_unit(thread, [&](int64_t first, int head) {
            const float* rotated = k.rotated + first * kept;
            attention().forward(rotated + head * group * size, rotated + (m_.heads + head) * size, kept,
                                k.qkv + first * width + (m_.rotated_heads() + head) * size, width,
                                k.y + first * m_.q_size() + head * group * size, m_.q_size(),
                                k.logsum + first * m_.heads + head * group, m_.heads, own.scratch);
        });
    }

    void attend_backward(int n, int thread, Own& own) {
        Kept& k = kept(n);
        const int size = m_.head_dim, group = m_.heads / m_.kv_heads;
        const int kept = m_.rotated_heads() * size, width = m_.qkv_size();
        each_unit(thread, [&](int64_t first, int head) {
            const float* rotated = k.rotated + first * kept;
            const int64_t output = first * m_.q_size() + head * group * size;
            float* d_qkv = d_qkv_ + first * width;
            attention().backward(
                rotated + head * group * size, rotated + (m_.heads + head) * size, kept,
                k.qkv + first * width + (m_.rotated_heads() + head) * size, width, k.y + output,
                d_y_ + output, m_.q_size(), k.logsum + first * m_.heads + head * group, m_.heads,
                d_qkv + head * group * size, d_qkv + (m_.heads + head) * size,
                d_qkv + (m_.rotated_heads() + head) * size, width, own.scratch);
        });
    }

    void feed_forward(int n, Span chunk, Own& own) {
        Kept& k = kept(n);
        const int d = m_.d_model, rows = chunk.size();
        const int64_t first = int64_t(chunk.begin) * d;
        // 1. x + the output of attention
        float* middle = k.middle + first;
        add_update(2 * n, k.y + int64_t(chunk.begin) * m_.q_size(), packed_[n].out.forward,
                   m_.q_size(), k.x, middle, chunk, own.scratch, own);
        // 2. + the feed-forward layer
        float* h = own.scratch;
        float* hidden = h + int64_t(CHUNK) * d;
        norm(k.middle, m_.layers[n].mlp_norm, h, chunk);
        float* gate_up = k.gate_up + int64_t(chunk.begin) * 2 * m_.d_ff;
        product(h, d, packed_[n].gate_up.forward, gate_up, 2 * m_.d_ff, rows, 2 * m_.d_ff, d, false,
                own);
        for (int64_t i = 0; i < rows; i++) swiglu(gate_up + i * 2 * m_.d_ff, hidden + i * m_.d_ff, m_.d_ff);
        add_update(2 * n + 1, hidden, packed_[n].down.forward, m_.d_ff, k.middle,
                   stream(n + 1) + first, chunk, hidden + int64_t(CHUNK) * m_.d_ff, own);
    }

    // next = x + A B, of which elements may be dropped; `place` is that of the layer in the model
    void add_update(int place, const float* a, const float* packed, int depth, const float* x,
                    float* next, Span chunk, float* room, Own& own) const {
        const int d = m_.d_model, rows = chunk.size();
        const int64_t first = int64_t(chunk.begin) * d, size = int64_t(rows) * d;
        if (!drops()) {
            std::copy_n(x + first, size, next);
            return product(a, depth, packed, next, d, rows, d, depth, true, own);
        }
        product(a, depth, packed, room, d, rows, d, depth, false, own);
        batch_->dropout.add_rest(place, first, size, x + first, room, next);
    }

    // the derivative of A B in `add_update` by that of its result
    const float* update_backward(int place, Span chunk, float* room) const {
        const int64_t first = int64_t(chunk.begin) * m_.d_model;
        const float* d_next = d_x_ + first;
        if (!drops()) return d_next;
        batch_->dropout.backward(place, first, int64_t(chunk.size()) * m_.d_model, d_next, room);
        return room;
    }

    // loss, and d_x after the last layer
    void score(Span chunk, Own& own) {
        const int d = m_.d_model, rows = chunk.size(), room = in_panels(m_.vocab_size);
        float* h = own.scratch;
        float* d_h = h + int64_t(CHUNK) * d;
        float* logits = d_h + int64_t(CHUNK) * d;
        float* packed = logits + int64_t(CHUNK) * room;
        norm(x_, m_.norm, h, chunk);
        product(h, d, head_weight_.forward, logits, room, rows, m_.vocab_size, d, false, own);
        for (int i = 0; i < rows; i++) {
            int correct;
            own.loss += cross_entropy(logits + int64_t(i) * room, m_.vocab_size, room,
                                      batch_->targets[chunk.begin + i], &correct);
            own.correct += correct;
        }
        if (!learns()) return;
        add_gradient(logits, room, h, d, own.gradients.head, m_.vocab_size, d, rows, packed, own);
        product(logits, room, head_weight_.backward, d_h, d, rows, d, m_.vocab_size, false, own);
        std::fill_n(d_x_ + int64_t(chunk.begin) * d, int64_t(rows) * d, 0.0f);
        norm_backward(x_, m_.norm, d_h, own.gradients.norm, chunk);
    }

    void feed_forward_backward(int n, Span chunk, Own& own) {
        Kept& k = kept(n);
        const LayerWeights& w = m_.layers[n];
        LayerGradients& g = own.gradients.layers[n];
        const int d = m_.d_model, f = m_.d_ff, rows = chunk.size(), width = m_.q_size();
        float* room = own.scratch;
        float* h = room + int64_t(CHUNK) * d;
        float* d_hidden = h + int64_t(CHUNK) * d;
        float* hidden = d_hidden + int64_t(CHUNK) * std::max(f, d);
        float* d_gate_up = hidden + int64_t(CHUNK) * f;
        float* packed = d_gate_up + int64_t(CHUNK) * 2 * f;
        // 1. the feed-forward layer
        const float* d_update = update_backward(2 * n + 1, chunk, room);
        product(d_update, d, packed_[n].down.backward, d_hidden, f, rows, f, d, false, own);
        for (int64_t i = 0; i < rows; i++) {
            swiglu_backward(k.gate_up + (chunk.begin + i) * 2 * f, d_hidden + i * f, hidden + i * f,
                            d_gate_up + i * 2 * f, f);
        }
        add_gradient(d_update, d, hidden, f, g.down, d, f, rows, packed, own);
        norm(k.middle, w.mlp_norm, h, chunk);
        add_gradient(d_gate_up, 2 * f, h, d, g.gate_up, 2 * f, d, rows, packed, own);
        product(d_gate_up, 2 * f, packed_[n].gate_up.backward, d_hidden, d, rows, d, 2 * f, false,
                own);
        norm_backward(k.middle, w.mlp_norm, d_hidden, g.mlp_norm, chunk);
        // 2. the output of attention
        const float* y = k.y + int64_t(chunk.begin) * width;
        d_update = update_backward(2 * n, chunk, room);
        add_gradient(d_update, d, y, width, g.out, d, width, rows, packed, own);
        product(d_update, d, packed_[n].out.backward, d_y_ + int64_t(chunk.begin) * width, width, rows,
                width, d, false, own);
    }

    void project_backward(int n, Span chunk, Own& own) {
        Kept& k = kept(n);
        const LayerWeights& w = m_.layers[n];
        LayerGradients& g = own.gradients.layers[n];
        const int d = m_.d_model, size = m_.head_dim, width = m_.qkv_size(), rows = chunk.size();
        for (int i = chunk.begin; i < chunk.end; i++) {
            const int64_t position = int64_t(i % batch_->length) * size;
            for (int head = 0; head < m_.rotated_heads(); head++) {
                const int64_t place = int64_t(i) * width + head * size;
                rotate_back(d_qkv_ + place, m_.cos + position, m_.sin + position, size / 2);
                const bool is_query = head < m_.heads;
                if (const float* factor = is_query ? w.query_norm : w.key_norm) {
                    rms_norm_backward<false>(k.qkv + place, factor, d_qkv_ + place, d_qkv_ + place,
                                             is_query ? g.query_norm : g.key_norm, size, m_.eps);
                }
            }
        }
        const float* d_qkv = d_qkv_ + int64_t(chunk.begin) * width;
        float* h = own.scratch;
        float* d_h = h + int64_t(CHUNK) * d;
        float* packed = d_h + int64_t(CHUNK) * d;
        norm(k.x, w.attention_norm, h, chunk);
        add_gradient(d_qkv, width, h, d, g.qkv, width, d, rows, packed, own);
        product(d_qkv, width, packed_[n].qkv.backward, d_h, d, rows, d, width, false, own);
        norm_backward(k.x, w.attention_norm, d_h, g.attention_norm, chunk);
    }

    // the sums of all threads into those of the first, each thread a part of them
    void add_gradients(int thread) {
        const int64_t vectors = own_[0].gradients.size / LANES;
        const int64_t begin = vectors * thread / threads_ * LANES;
        const int64_t end = vectors * (thread + 1) / threads_ * LANES;
        for (int other = 1; other < threads_; other++) {
            add(base(own_[other]) + begin, base(own_[0]) + begin, end - begin);
        }
    }

    TrainedModel m_;
    std::vector<LayerWeights> layers_;
    std::vector<PackedLayer> packed_;
    std::vector<Kept> kept_;
    std::vector<Own> own_;
    PackedMatrix head_weight_;
    Buffer last_, d_last_, d_output_, d_projected_;
    float *x_, *d_x_, *d_y_, *d_qkv_;
    TrainingBatch* batch_ = nullptr;
    int positions_ = 0, threads_ = 1;
};

extern "C" {

Training* training_new(const TrainedModel* model) {
    try {
        return new Training(*model);
    } catch (...) {
        return nullptr;
    }
}

void training_delete(Training* training) { delete training; }

int training_step(Training* training, TrainingBatch* batch) {
    try {
        training->step(*batch);
        return 0;
    } catch (...) {  // not enough memory
        return 1;
    }
}
}
