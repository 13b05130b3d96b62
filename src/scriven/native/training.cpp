// Loss and gradients of a decoder such as Llama or GPT-2, in float32: one call for the forward and
// the backward pass over a batch. The factors of products with weights, and of their gradients, are
// rounded to bfloat16 where a batch asks for it, as PyTorch's autocast does.
//
// Threads wait for each other only around attention, whose units are a row and a key/value head. Who
// is done helps the others, but for gradients of weights: of these each thread keeps sums of its own,
// over the positions that are its part. So results depend on the number of threads, in the last
// digits, and on nothing else.
//
// The structures are those of training.py.
#include <atomic>
#include <utility>
#include <vector>

#include "dropout.h"
#include "matmul.h"
#include "thread_pool.h"
#include "training_attention.h"
#include "training_layers.h"

// Positions that go through a layer together: its weights and their gradients, which come from beyond
// the second cache level, are read once for them.
constexpr int CHUNK = 384;
// What lies between the parts of a layer stays in a cache: so many positions at a time, and columns of a
// feed-forward layer.
constexpr int ROWS = 64;
constexpr int COLUMNS = 192;
constexpr int SCORED_ROWS = 128;  // whose logits are there together

// about a millisecond: phases are that long, and what another program gets is lost for both threads
constexpr int PATIENCE = 40000;

// pointers to what a model lacks are null
template <class Number>
struct Affine {
    Number *weight, *bias;
};

// `qkv` and `inputs` are several matrices, one below the other: of queries, keys and values; of the
// gate and what it multiplies, or the first matrix of a feed-forward layer without a gate
template <class Number>
struct Layer {
    Affine<Number> attention_norm, qkv;
    Number *query_norm, *key_norm;
    Affine<Number> out, mlp_norm, inputs, down;
};
typedef Layer<const float> LayerWeights;

struct TrainedModel {
    const LayerWeights* layers;
    const int* windows;                  // of sliding attention in each layer; 0: it sees all
    const float *embedding, *positions;  // positions: (context length, d_model)
    Affine<const float> norm;            // with a bias it is a LayerNorm, as are those of layers
    const float* head;                   // null where it is the embedding
    const float *cos, *sin;              // (positions, head_dim), of rotary positions
    int num_layers, d_model, heads, kv_heads, head_dim, d_ff, vocab_size, context_length;
    int learns_positions, is_gated;
    Activation activation;
    float eps, scale;

    int q_size() const { return heads * head_dim; }
    int all_heads() const { return heads + 2 * kv_heads; }  // queries, keys, values
    int qkv_size() const { return all_heads() * head_dim; }
    int num_inputs() const { return is_gated ? 2 : 1; }
    bool norms_heads() const { return layers[0].query_norm; }
};

struct TrainingBatch {
    const int64_t *tokens, *targets;  // (rows, length)
    int rows, length, threads;
    int bfloat16;  // whether products may be rounded to it
    // of embeddings, attention weights and what layers add to x, while gradients are made
    Dropout dropout;
    int drops_embeddings, drops_weights;
    // of all weights, in the order of their names above, layer by layer; null: the loss alone
    float* gradients;
    double loss;       // summed over the targets
    int64_t correct;
};

// where the gradients of all weights are, in the order of their names
struct Gradients {
    std::vector<Layer<float>> layers;
    float *embedding, *positions;
    Affine<float> norm;
    float* head;
    int64_t size;

    Gradients() = default;
    Gradients(const TrainedModel& m, float* memory) {
        float* next = memory;
        const auto take = [&next](const void* weight, int64_t count) {
            return weight ? std::exchange(next, next + count) : nullptr;
        };
        const auto take_both = [&](const Affine<const float>& of, int64_t rows, int64_t columns) {
            float* weight = take(of.weight, rows * columns);
            return Affine<float>{weight, take(of.bias, rows)};
        };
        const int64_t d = m.d_model;
        for (int n = 0; n < m.num_layers; n++) {
            const LayerWeights& w = m.layers[n];
            Layer<float> g;
            g.attention_norm = take_both(w.attention_norm, d, 1);
            g.qkv = take_both(w.qkv, m.qkv_size(), d);
            g.query_norm = take(w.query_norm, m.head_dim);
            g.key_norm = take(w.key_norm, m.head_dim);
            g.out = take_both(w.out, d, m.q_size());
            g.mlp_norm = take_both(w.mlp_norm, d, 1);
            g.inputs = take_both(w.inputs, int64_t(m.num_inputs()) * m.d_ff, d);
            g.down = take_both(w.down, d, m.d_ff);
            layers.push_back(g);
        }
        embedding = take(m.embedding, d * m.vocab_size);
        positions = take(m.learns_positions ? m.positions : nullptr, d * m.context_length);
        norm = take_both(m.norm, d, 1);
        head = m.head ? take(m.head, d * m.vocab_size) : embedding;
        size = next - memory;
    }
};

// a matrix (out, in) packed for x W^T and for y W
struct PackedMatrix {
    Buffer forward_, backward_;
    float *forward, *backward;

    void allocate(int out, int in) {
        forward = forward_.get(packed_size(in, out));
        backward = backward_.get(packed_size(out, in));
    }
    // the panels of one thread
    void pack_part(const Matmul& matmul, const float* weight, int out, int in, int thread, int threads,
                   float* memory) {
        const auto part = [=](int columns, int n) {
            return int(int64_t(panels(columns)) * n / threads) * PANEL;
        };
        int begin = part(out, thread), end = std::min(out, part(out, thread + 1));
        matmul.pack_right_transposed(weight + int64_t(begin) * in, in, in, end - begin,
                                     matmul.part(forward, in, 0, begin), memory);
        begin = part(in, thread), end = std::min(in, part(in, thread + 1));
        matmul.pack_right(weight + begin, in, out, end - begin, matmul.part(backward, out, 0, begin));
    }
};

struct PackedLayer {
    PackedMatrix qkv, out, inputs[2], down;
};

// what the backward pass needs of a layer
struct Kept {
    Buffer x_, qkv_, heads_, y_, logsum_, middle_, inputs_;
    // a row for each position. qkv: before norms of heads, where there are some; inputs: those of the
    // activation, bfloat16 where products are rounded to it
    float *x, *qkv, *y, *middle, *inputs;
    // what attention reads, (rows, queries + keys + values, length, head_dim): the vectors of a head lie
    // one after the other, or each would be on another page of memory
    float* heads;
    float* logsum;  // (rows, heads, length)
};

class Training {
   public:
    explicit Training(const TrainedModel& model)
        : m_(model),
          layers_(model.layers, model.layers + model.num_layers),
          windows_(model.windows, model.windows + model.num_layers),
          packed_(model.num_layers),
          kept_(model.num_layers) {
        m_.layers = layers_.data();
        m_.windows = windows_.data();
    }

    void step(TrainingBatch& batch) {
        ThreadPool& pool = ThreadPool::of_process();
        const std::lock_guard<std::mutex> held(pool.in_use());
        batch_ = &batch;
        positions_ = batch.rows * batch.length;
        const int units = batch.rows * m_.kv_heads;
        threads_ = std::max(1, std::min(batch.threads, units));
        const int most = threads_ * CHUNK;
        chunks_ = std::min(blocks(), threads_ * ((blocks() * BLOCK + most - 1) / most));
        taken_ = std::vector<std::atomic<int>>(int64_t(phases()) * threads_);
        allocate();
        pool.run(threads_, [&](int thread) { run(pool, thread); }, PATIENCE);
        batch.loss = 0, batch.correct = 0;
        for (const Own& own : own_) batch.loss += own.loss, batch.correct += own.correct;
    }

   private:
    // of one thread
    struct Own {
        Buffer gradients_, scratch_, left_, right_;
        Gradients gradients;
        float *scratch, *left, *right;  // the last two: factors of a product
        double loss;
        int64_t correct;
        int phase;  // number of the next one in which threads help each other
    };

    CausalAttention attention() const {
        return {batch_->length, m_.head_dim, m_.heads / m_.kv_heads, m_.scale, matmul()};
    }

    void allocate() {
        const int64_t n = positions_, d = m_.d_model;
        for (int layer = 0; layer < (learns() ? m_.num_layers : 1); layer++) {
            Kept& k = kept_[layer];
            k.x = k.x_.get(n * d);
            if (m_.norms_heads()) k.qkv = k.qkv_.get(n * m_.qkv_size());
            k.heads = k.heads_.get(n * m_.qkv_size());
            k.y = k.y_.get(n * m_.q_size());
            k.logsum = k.logsum_.get(n * m_.heads);
            k.middle = k.middle_.get(n * d);
            k.inputs = k.inputs_.get(n * m_.num_inputs() * m_.d_ff);
        }
        for (PackedLayer& packed : packed_) {
            packed.qkv.allocate(m_.qkv_size(), m_.d_model);
            packed.out.allocate(m_.d_model, m_.q_size());
            for (int part = 0; part < m_.num_inputs(); part++) {
                packed.inputs[part].allocate(m_.d_ff, m_.d_model);
            }
            packed.down.allocate(m_.d_model, m_.d_ff);
        }
        head_weight_.allocate(m_.vocab_size, m_.d_model);
        x_ = last_.get(n * d), d_x_ = d_last_.get(n * d);
        d_y_ = d_output_.get(n * m_.q_size()), d_heads_ = d_projected_.get(n * m_.qkv_size());
        // what `feed_forward_backward`, `project_backward` and `score` hold
        const int widest = std::max({m_.d_model, m_.q_size(), m_.qkv_size(), m_.vocab_size});
        const auto packed = [](int rows, int columns) {
            return std::max(packed_size(rows, columns), packed_size(columns, rows));
        };
        const int64_t local = std::max(
            2 * CHUNK * d + 4 * ROWS * COLUMNS + 3 * packed(CHUNK, m_.d_model) + 3 * packed(CHUNK, COLUMNS),
            std::max(CHUNK * (2 * d + m_.qkv_size()),
                     SCORED_ROWS * (2 * d + in_panels(m_.vocab_size))));
        own_.resize(threads_);
        for (int thread = 0; thread < threads_; thread++) {
            Own& own = own_[thread];
            if (learns()) {
                const int64_t size = Gradients(m_, nullptr).size;
                own.gradients = Gradients(m_, thread ? own.gradients_.get(size) : batch_->gradients);
            }
            own.scratch = own.scratch_.get(std::max(local, attention().scratch()));
            // also for PANEL rows of a weight while it is packed, of which the widest is d_ff wide
            own.left = own.left_.get(std::max(packed_size(std::max(widest, COLUMNS), CHUNK),
                                              packed_size(PANEL, std::max(widest, m_.d_ff))));
            own.right = own.right_.get(packed_size(CHUNK, widest));
        }
    }

    void run(ThreadPool& pool, int thread) {
        [[maybe_unused]] const Tiles tiles;
        Own& own = own_[thread];
        own.loss = 0, own.correct = 0, own.phase = 0;
        if (learns()) std::fill_n(base(own), own.gradients.size, 0.0f);
        pack_weights(thread, own);
        pool.barrier();
        const int units = batch_->rows * m_.kv_heads;
        help(thread, chunks_, [&](int n) {
            embed(chunk(n));
            project(0, chunk(n), own);
        });
        for (int layer = 0; layer < m_.num_layers; layer++) {
            pool.barrier();
            help(thread, units, [&](int unit) { attend(layer, unit, own); });
            pool.barrier();
            help(thread, chunks_, [&](int n) {
                feed_forward(layer, chunk(n), own);
                if (layer + 1 < m_.num_layers) project(layer + 1, chunk(n), own);
            });
        }
        pool.barrier();
        const Span mine = part(chunks_, thread);
        for (int n = mine.begin; n < mine.end; n++) {
            each_part(chunk(n), SCORED_ROWS, [&](Span rows) { score(rows, own); });
        }
        if (!learns()) return;
        for (int layer = m_.num_layers; layer-- > 0;) {
            for (int n = mine.begin; n < mine.end; n++) {
                if (layer + 1 < m_.num_layers) project_backward(layer + 1, chunk(n), own);
                feed_forward_backward(layer, chunk(n), own);
            }
            pool.barrier();
            help(thread, units, [&](int unit) { attend_backward(layer, unit, own); });
            pool.barrier();
        }
        for (int n = mine.begin; n < mine.end; n++) {
            project_backward(0, chunk(n), own);
            embed_backward(chunk(n), own);
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

    // boundaries of chunks are where tiles of AMX end
    static constexpr int BLOCK = 32;
    int blocks() const { return (positions_ + BLOCK - 1) / BLOCK; }

    Span chunk(int64_t n) const {
        const auto boundary = [&](int64_t number) {
            return std::min(int(blocks() * number / chunks_) * BLOCK, positions_);
        };
        return {boundary(n), boundary(n + 1)};
    }

    // function(Span) for parts of a chunk
    template <class Function>
    static void each_part(Span chunk, int most, const Function& function) {
        for (int begin = chunk.begin; begin < chunk.end; begin += most) {
            function(Span{begin, std::min(begin + most, chunk.end)});
        }
    }

    int phases() const { return 1 + 3 * m_.num_layers; }

    // function(n) for each of `count` pieces of work: first those of the thread's own part, then what
    // is left of the others'
    template <class Function>
    void help(int thread, int count, const Function& function) {
        std::atomic<int>* taken = &taken_[int64_t(own_[thread].phase++) * threads_];
        for (int other = 0; other < threads_; other++) {
            const int owner = (thread + other) % threads_;
            const Span pieces = part(count, owner);
            while (true) {
                const int n = pieces.begin + taken[owner].fetch_add(1, std::memory_order_relaxed);
                if (n >= pieces.end) break;
                function(n);
            }
        }
    }

    static float* base(Own& own) {
        return own.gradients.layers.empty() ? own.gradients.embedding
                                            : own.gradients.layers[0].attention_norm.weight;
    }

    static void add(const float* from, float* to, int64_t size) {
        for (int64_t i = 0; i < size; i += LANES) store(to + i, load(to + i) + load(from + i));
    }

    void pack_weights(int thread, Own& own) {
        const auto pack = [&](PackedMatrix& packed, const float* weight, int out, int in) {
            packed.pack_part(matmul(), weight, out, in, thread, threads_, own.left);
        };
        const int d = m_.d_model, f = m_.d_ff;
        for (int n = 0; n < m_.num_layers; n++) {
            const LayerWeights& w = m_.layers[n];
            PackedLayer& packed = packed_[n];
            pack(packed.qkv, w.qkv.weight, m_.qkv_size(), d);
            for (int part = 0; part < m_.num_inputs(); part++) {
                pack(packed.inputs[part], w.inputs.weight + int64_t(part) * f * d, f, d);
            }
            pack(packed.out, w.out.weight, d, m_.q_size());
            pack(packed.down, w.down.weight, d, f);
        }
        pack(head_weight_, head(), m_.vocab_size, d);
    }

    const float* head() const { return m_.head ? m_.head : m_.embedding; }

    // what dropout may reach: the update number 2 n of a layer, 2 n + 1, and these
    int embedding_place() const { return 2 * m_.num_layers; }
    int weights_place(int n) const { return embedding_place() + 1 + n; }

    void embed(Span mine) {
        const int64_t d = m_.d_model, first = mine.begin * d;
        float* x = stream(0);
        for (int i = mine.begin; i < mine.end; i++) {
            std::copy_n(m_.embedding + batch_->tokens[i] * d, d, x + i * d);
            if (m_.positions) add(m_.positions + i % batch_->length * d, x + i * d, d);
        }
        if (drops() && batch_->drops_embeddings) {
            batch_->dropout.keep_rest(embedding_place(), first, mine.size() * d, x + first, x + first);
        }
    }

    void embed_backward(Span mine, Own& own) {
        const int64_t d = m_.d_model, first = mine.begin * d;
        if (drops() && batch_->drops_embeddings) {
            batch_->dropout.keep_rest(embedding_place(), first, mine.size() * d, d_x_ + first,
                                      d_x_ + first);
        }
        for (int i = mine.begin; i < mine.end; i++) {
            add(d_x_ + i * d, own.gradients.embedding + batch_->tokens[i] * d, d);
            if (m_.learns_positions) {
                add(d_x_ + i * d, own.gradients.positions + i % batch_->length * d, d);
            }
        }
    }

    bool learns() const { return batch_->gradients != nullptr; }

    bool drops() const { return learns() && batch_->dropout.p > 0; }

    bool rounds() const { return CAN_ROUND && batch_->bfloat16; }

    Matmul matmul() const { return Matmul(rounds()); }

    // C (rows, columns) = addend + A B for a weight B
    void product(const float* a, int a_stride, const float* packed, float* c, int c_stride, int rows,
                 int columns, int depth, Own& own, Addend addend = {}) const {
        const auto left = matmul().left(a, a_stride, rows, depth, own.left);
        matmul().multiply(left, packed, c, c_stride, rows, columns, depth, addend);
    }

    // the gradient of a weight (rows, columns) += A^T B
    void add_gradient(const float* a, int a_stride, const float* b, int b_stride, float* gradient,
                      int rows, int columns, int depth, Own& own) const {
        matmul().pack_right(b, b_stride, depth, columns, own.right);
        const auto left = matmul().left_transposed(a, a_stride, rows, depth, own.left);
        matmul().multiply(left, own.right, gradient, columns, rows, columns, depth,
                          Addend{gradient, columns});
    }

    // of layer `n`; without a backward pass all layers share the memory of one
    Kept& kept(int n) { return kept_[learns() ? n : 0]; }

    // the residual stream before layer `n`
    float* stream(int n) { return n < m_.num_layers ? kept(n).x : x_; }

    void norm(const float* x, const Affine<const float>& weights, float* y, Span chunk) const {
        for (int i = 0; i < chunk.size(); i++) {
            const float* from = x + int64_t(chunk.begin + i) * m_.d_model;
            float* to = y + int64_t(i) * m_.d_model;
            if (weights.bias) {
                layer_norm(from, weights.weight, weights.bias, to, m_.d_model, m_.eps);
            } else {
                rms_norm(from, weights.weight, to, m_.d_model, m_.eps);
            }
        }
    }

    // d_x += the derivative through a norm of x
    void norm_backward(const float* x, const Affine<const float>& weights, const float* d_y,
                       const Affine<float>& gradient, Span chunk) {
        for (int i = 0; i < chunk.size(); i++) {
            const int64_t row = int64_t(chunk.begin + i) * m_.d_model;
            const float* d_out = d_y + int64_t(i) * m_.d_model;
            if (weights.bias) {
                layer_norm_backward(x + row, weights.weight, d_out, d_x_ + row, gradient.weight,
                                    gradient.bias, m_.d_model, m_.eps);
            } else {
                rms_norm_backward<true>(x + row, weights.weight, d_out, d_x_ + row, gradient.weight,
                                        m_.d_model, m_.eps);
            }
        }
    }

    void project(int n, Span chunk, Own& own) {
        Kept& k = kept(n);
        const LayerWeights& w = m_.layers[n];
        const int size = m_.head_dim, width = m_.qkv_size();
        Scratch memory{own.scratch};
        float* h = memory.take(CHUNK * m_.d_model);
        float* qkv = m_.norms_heads() ? k.qkv + int64_t(chunk.begin) * width : memory.take(CHUNK * width);
        norm(k.x, w.attention_norm, h, chunk);
        product(h, m_.d_model, packed_[n].qkv.forward, qkv, width, chunk.size(), width, m_.d_model, own,
                Addend{w.qkv.bias});
        float* normed = h;  // which is no longer needed
        each_head(chunk, [&](int row, int head, int i, int64_t position) {
            const bool is_value = head >= m_.heads + m_.kv_heads;
            const float* factor = is_value ? nullptr : head < m_.heads ? w.query_norm : w.key_norm;
            float* to = heads_of(k.heads, row, head).at(0, i);
            const float* from = qkv + position * width + head * size;
            if (factor) rms_norm(from, factor, normed, size, m_.eps);
            const float* x = factor ? normed : from;
            if (m_.cos && !is_value) {
                rotate(x, m_.cos + int64_t(i) * size, m_.sin + int64_t(i) * size, to, size / 2);
            } else {
                std::copy_n(x, size, to);
            }
        });
    }

    // function(row, head, place in the row, number in the chunk) for the positions of a chunk
    template <class Function>
    void each_head(Span chunk, const Function& function) const {
        for (int position = chunk.begin; position < chunk.end; position++) {
            for (int head = 0; head < m_.all_heads(); head++) {
                function(position / batch_->length, head, position % batch_->length,
                         position - chunk.begin);
            }
        }
    }

    // the heads from `head` on, in a row
    template <class Number>
    Heads<Number> heads_of(Number* heads, int row, int head) const {
        const int64_t size = m_.head_dim, of_head = batch_->length * size;
        return {heads + (int64_t(row) * m_.all_heads() + head) * of_head, size, of_head};
    }

    // what attention writes for query heads from `head` on, in a row
    template <class Number>
    Heads<Number> outputs_of(Number* y, int row, int head) const {
        const int64_t first = int64_t(row) * batch_->length * m_.q_size() + head * m_.head_dim;
        return {y + first, m_.q_size(), m_.head_dim};
    }

    // of layer `n`, for query heads from `head` on
    CausalAttention attention(int n, int64_t row, int head) const {
        CausalAttention found = attention();
        if (m_.windows[n]) found.window = m_.windows[n];
        if (drops() && batch_->drops_weights) {
            const int64_t first = row * m_.heads + head;
            found.dropped = {batch_->dropout.mask(weights_place(n)),
                             uint32_t(first * batch_->length * batch_->length)};
        }
        return found;
    }

    void attend(int n, int unit, Own& own) {
        Kept& k = kept(n);
        const int row = unit / m_.kv_heads, head = unit % m_.kv_heads;
        const int query = head * (m_.heads / m_.kv_heads), key = m_.heads + head;
        const float* heads = k.heads;
        attention(n, row, query)
            .forward(heads_of(heads, row, query), heads_of(heads, row, key),
                     heads_of(heads, row, key + m_.kv_heads), outputs_of(k.y, row, query),
                     k.logsum + (int64_t(row) * m_.heads + query) * batch_->length, own.scratch);
    }

    void attend_backward(int n, int unit, Own& own) {
        Kept& k = kept(n);
        const int row = unit / m_.kv_heads, head = unit % m_.kv_heads;
        const int query = head * (m_.heads / m_.kv_heads), key = m_.heads + head;
        const float *heads = k.heads, *y = k.y, *d_y = d_y_;
        attention(n, row, query)
            .backward(heads_of(heads, row, query), heads_of(heads, row, key),
                      heads_of(heads, row, key + m_.kv_heads), outputs_of(y, row, query),
                      outputs_of(d_y, row, query),
                      k.logsum + (int64_t(row) * m_.heads + query) * batch_->length,
                      heads_of(d_heads_, row, query), heads_of(d_heads_, row, key),
                      heads_of(d_heads_, row, key + m_.kv_heads), own.scratch);
    }

    void feed_forward(int n, Span chunk, Own& own) {
        Kept& k = kept(n);
        const LayerWeights& w = m_.layers[n];
        const int d = m_.d_model, f = m_.d_ff, rows = chunk.size();
        const int64_t first = int64_t(chunk.begin) * d;
        Scratch memory{own.scratch};
        float* room = memory.take(CHUNK * d);
        float* h = memory.take(CHUNK * d);
        float* inputs[2] = {memory.take(ROWS * COLUMNS), memory.take(ROWS * COLUMNS)};
        float* hidden = memory.take(ROWS * COLUMNS);
        float* rounded = memory.take(packed_size(CHUNK, d));
        // 1. x + the output of attention
        float* middle = k.middle + first;
        add_update(2 * n, k.x, w.out.bias, middle, chunk, room, [&](float* to, Addend addend) {
            product(k.y + int64_t(chunk.begin) * m_.q_size(), m_.q_size(), packed_[n].out.forward, to, d,
                    rows, d, m_.q_size(), own, addend);
        });
        // 2. + the feed-forward layer, some columns at a time
        norm(k.middle, w.mlp_norm, h, chunk);
        const auto left = matmul().left(h, d, rows, d, rounded);
        float* next = stream(n + 1) + first;
        add_update(2 * n + 1, k.middle, w.down.bias, next, chunk, room, [&](float* to, Addend addend) {
            for (int begin = 0; begin < f; begin += COLUMNS) {
                const int columns = std::min(COLUMNS, f - begin);
                each_part(chunk, ROWS, [&](Span part) {
                    const int row = part.begin - chunk.begin, count = part.size();
                    const auto own_left = matmul().from_row(left, row, d);
                    for (int i = 0; i < m_.num_inputs(); i++) {
                        const float* weight = matmul().part(packed_[n].inputs[i].forward, d, 0, begin);
                        matmul().multiply(own_left, weight, inputs[i], COLUMNS, count, columns, d,
                                          Addend{w.inputs.bias}.at(0, i * f + begin));
                    }
                    for (int i = 0; i < count; i++) {
                        const float* gate = inputs[0] + i * COLUMNS;
                        const float* up = m_.is_gated ? inputs[1] + i * COLUMNS : nullptr;
                        feed_forward_hidden(m_.activation, gate, up, hidden + i * COLUMNS, columns);
                        if (!learns()) continue;
                        keep_inputs(k, 0, part.begin + i, begin, gate, columns);
                        if (up) keep_inputs(k, 1, part.begin + i, begin, up, columns);
                    }
                    matmul().multiply(matmul().left(hidden, COLUMNS, count, columns, own.left),
                                      matmul().part(packed_[n].down.forward, f, begin, 0), f,
                                      to + int64_t(row) * d, d, count, d, columns,
                                      (begin > 0 ? Addend{to, d} : addend).at(row, 0));
                });
            }
        });
    }

    // where the kept inputs of `columns` columns from `begin` on are, for a position: one position
    // after the other, so that they are written and read in a row
    int64_t kept_place(int part, int begin, int columns, int position) const {
        return (int64_t(part) * m_.d_ff + begin) * positions_ + int64_t(position) * columns;
    }

    void keep_inputs(Kept& k, int part, int position, int begin, const float* inputs, int columns) const {
        const int64_t at = kept_place(part, begin, columns, position);
        if (rounds()) {
            round_to(inputs, reinterpret_cast<uint16_t*>(k.inputs) + at, columns);
        } else {
            std::copy_n(inputs, columns, k.inputs + at);
        }
    }

    // next = x + bias + an update, of which elements may be dropped; `place` is that of the layer in
    // the model, and update(to, addend) writes their sum
    template <class Function>
    void add_update(int place, const float* x, const float* bias, float* next, Span chunk, float* room,
                    const Function& update) const {
        const int64_t d = m_.d_model, first = chunk.begin * d, size = chunk.size() * d;
        if (drops()) {
            update(room, Addend{bias});
            return batch_->dropout.add_rest(place, first, size, x + first, room, next);
        }
        update(next, Addend{x + first, d});
        for (int i = 0; bias && i < chunk.size(); i++) add(bias, next + i * d, d);
    }

    // the derivative of the update in `add_update` by that of its result
    const float* update_backward(int place, Span chunk, float* room) const {
        const int64_t first = int64_t(chunk.begin) * m_.d_model;
        const float* d_next = d_x_ + first;
        if (!drops()) return d_next;
        batch_->dropout.keep_rest(place, first, int64_t(chunk.size()) * m_.d_model, d_next, room);
        return room;
    }

    // loss, and d_x after the last layer
    void score(Span chunk, Own& own) {
        const int d = m_.d_model, rows = chunk.size(), room = in_panels(m_.vocab_size);
        float* h = own.scratch;
        float* d_h = h + int64_t(SCORED_ROWS) * d;
        float* logits = d_h + int64_t(SCORED_ROWS) * d;
        norm(x_, m_.norm, h, chunk);
        product(h, d, head_weight_.forward, logits, room, rows, m_.vocab_size, d, own);
        for (int i = 0; i < rows; i++) {
            int correct;
            own.loss += cross_entropy(logits + int64_t(i) * room, m_.vocab_size, room,
                                      batch_->targets[chunk.begin + i], &correct);
            own.correct += correct;
        }
        if (!learns()) return;
        add_gradient(logits, room, h, d, own.gradients.head, m_.vocab_size, d, rows, own);
        product(logits, room, head_weight_.backward, d_h, d, rows, d, m_.vocab_size, own);
        std::fill_n(d_x_ + int64_t(chunk.begin) * d, int64_t(rows) * d, 0.0f);
        norm_backward(x_, m_.norm, d_h, own.gradients.norm, chunk);
    }

    void feed_forward_backward(int n, Span chunk, Own& own) {
        Kept& k = kept(n);
        const LayerWeights& w = m_.layers[n];
        const PackedLayer& packed = packed_[n];
        Layer<float>& g = own.gradients.layers[n];
        const int d = m_.d_model, f = m_.d_ff, rows = chunk.size(), width = m_.q_size();
        Scratch memory{own.scratch};
        float* room = memory.take(CHUNK * d);
        float* h = memory.take(CHUNK * d);
        float* d_h = h;  // which is packed by then
        float* hidden = memory.take(ROWS * COLUMNS);
        float* d_hidden = memory.take(ROWS * COLUMNS);
        float* d_inputs[2] = {memory.take(ROWS * COLUMNS), memory.take(ROWS * COLUMNS)};
        float* packed_h = memory.take(packed_size(CHUNK, d));
        float* update_along = memory.take(packed_size(CHUNK, d));
        float* update_across = memory.take(packed_size(d, CHUNK));
        float* packed_hidden = memory.take(packed_size(CHUNK, COLUMNS));
        float* packed_d_inputs[2] = {memory.take(packed_size(COLUMNS, CHUNK)),
                                     memory.take(packed_size(COLUMNS, CHUNK))};
        // 1. the feed-forward layer, some columns at a time
        const float* d_update = update_backward(2 * n + 1, chunk, room);
        if (g.down.bias) add_rows(d_update, d, rows, d, g.down.bias);
        norm(k.middle, w.mlp_norm, h, chunk);
        matmul().pack_right(h, d, rows, d, packed_h);
        const auto along = matmul().left(d_update, d, rows, d, update_along);
        const auto across = matmul().left_transposed(d_update, d, d, rows, update_across);
        for (int begin = 0; begin < f; begin += COLUMNS) {
            const int columns = std::min(COLUMNS, f - begin);
            Matmul::Left d_across[2];
            each_part(chunk, ROWS, [&](Span part) {
                const int row = part.begin - chunk.begin, count = part.size();
                const Matmul::Piece piece{row, count, rows};
                matmul().multiply(matmul().from_row(along, row, d),
                                  matmul().part(packed.down.backward, d, 0, begin), d_hidden, COLUMNS,
                                  count, columns, d);
                if (rounds()) {
                    differentiate_hidden(reinterpret_cast<const uint16_t*>(k.inputs), part, begin,
                                         columns, d_hidden, hidden, d_inputs);
                } else {
                    differentiate_hidden(k.inputs, part, begin, columns, d_hidden, hidden, d_inputs);
                }
                matmul().pack_right(hidden, COLUMNS, piece, columns, packed_hidden);
                for (int i = 0; i < m_.num_inputs(); i++) {
                    const float* d_out = d_inputs[i];
                    if (g.inputs.bias) add_rows(d_out, COLUMNS, count, columns, g.inputs.bias + i * f + begin);
                    d_across[i] =
                        matmul().left_transposed(d_out, COLUMNS, columns, piece, packed_d_inputs[i]);
                    matmul().multiply(matmul().left(d_out, COLUMNS, count, columns, own.left),
                                      matmul().part(packed.inputs[i].backward, f, begin, 0), f,
                                      d_h + int64_t(row) * d, d, count, d, columns,
                                      (i + begin > 0 ? Addend{d_h, d} : Addend{}).at(row, 0));
                }
            });
            float* d_down = g.down.weight + begin;
            matmul().multiply(across, packed_hidden, d_down, f, d, columns, rows, Addend{d_down, f});
            for (int i = 0; i < m_.num_inputs(); i++) {
                float* d_input = g.inputs.weight + int64_t(i * f + begin) * d;
                matmul().multiply(d_across[i], packed_h, d_input, d, columns, d, rows, Addend{d_input, d});
            }
        }
        norm_backward(k.middle, w.mlp_norm, d_h, g.mlp_norm, chunk);
        // 2. the output of attention
        const float* y = k.y + int64_t(chunk.begin) * width;
        d_update = update_backward(2 * n, chunk, room);
        if (g.out.bias) add_rows(d_update, d, rows, d, g.out.bias);
        add_gradient(d_update, d, y, width, g.out.weight, d, width, rows, own);
        product(d_update, d, packed.out.backward, d_y_ + int64_t(chunk.begin) * width, width, rows,
                width, d, own);
    }

    // for `columns` columns of a feed-forward layer, from `begin` on
    template <class Number>
    void differentiate_hidden(const Number* inputs, Span chunk, int begin, int columns,
                              const float* d_hidden, float* hidden, float* const* d_inputs) const {
        for (int i = 0; i < chunk.size(); i++) {
            const auto of_part = [&](int part) {
                return inputs + kept_place(part, begin, columns, chunk.begin + i);
            };
            const int at = i * COLUMNS;
            feed_forward_hidden_backward(m_.activation, of_part(0),
                                         m_.is_gated ? of_part(1) : nullptr, d_hidden + at, hidden + at, d_inputs[0] + at,
                                         d_inputs[1] + at, columns);
        }
    }

    void project_backward(int n, Span chunk, Own& own) {
        Kept& k = kept(n);
        const LayerWeights& w = m_.layers[n];
        Layer<float>& g = own.gradients.layers[n];
        const int d = m_.d_model, size = m_.head_dim, width = m_.qkv_size(), rows = chunk.size();
        Scratch memory{own.scratch};
        float* h = memory.take(CHUNK * d);
        float* d_h = memory.take(CHUNK * d);
        float* d_qkv = memory.take(CHUNK * width);
        // 1. through rotations and norms of heads
        each_head(chunk, [&](int row, int head, int i, int64_t position) {
            const bool is_query = head < m_.heads, is_value = head >= m_.heads + m_.kv_heads;
            const float* factor = is_value ? nullptr : is_query ? w.query_norm : w.key_norm;
            const int64_t at = position * width + head * size;
            std::copy_n(heads_of(d_heads_, row, head).at(0, i), size, d_qkv + at);
            if (m_.cos && !is_value) {
                rotate_back(d_qkv + at, m_.cos + int64_t(i) * size, m_.sin + int64_t(i) * size, size / 2);
            }
            if (factor) {
                rms_norm_backward<false>(k.qkv + int64_t(chunk.begin) * width + at, factor, d_qkv + at,
                                         d_qkv + at, is_query ? g.query_norm : g.key_norm, size,
                                         m_.eps);
            }
        });
        // 2. through the projection
        norm(k.x, w.attention_norm, h, chunk);
        if (g.qkv.bias) add_rows(d_qkv, width, rows, width, g.qkv.bias);
        add_gradient(d_qkv, width, h, d, g.qkv.weight, width, d, rows, own);
        product(d_qkv, width, packed_[n].qkv.backward, d_h, d, rows, d, width, own);
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
    std::vector<int> windows_;
    std::vector<PackedLayer> packed_;
    std::vector<Kept> kept_;
    std::vector<Own> own_;
    PackedMatrix head_weight_;
    Buffer last_, d_last_, d_output_, d_projected_;
    float *x_, *d_x_, *d_y_, *d_heads_;
    TrainingBatch* batch_ = nullptr;
    int positions_ = 0, threads_ = 1, chunks_ = 1;
    std::vector<std::atomic<int>> taken_;  // pieces of work, of each phase and thread
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
