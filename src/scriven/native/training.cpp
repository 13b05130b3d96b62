// Loss and gradients of a decoder such as Llama, in float32: one call for the forward and the
// backward pass over a batch. The factors of products with weights, and of their gradients, are
// rounded to bfloat16 where a batch asks for it, as PyTorch's autocast does.
//
// Threads divide the positions among them and keep sums of their own for the gradients of weights;
// they wait for each other only around attention, whose units are a row and a key/value head. So
// results depend on the number of threads, in the last digits, and on nothing else.
//
// The structures are those of training.py.
#include <tuple>
#include <utility>
#include <vector>

#include "dropout.h"
#include "matmul.h"
#include "thread_pool.h"
#include "training_attention.h"
#include "training_layers.h"

// positions that go through a layer together, and columns of a feed-forward layer, so that what lies
// between its parts stays in a cache
constexpr int CHUNK = 128;
constexpr int COLUMNS = 192;

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
    PackedMatrix qkv, out, gate, up, down;
};

// what the backward pass needs of a layer, a row for each position; gate_up is bfloat16 where products
// are rounded to it
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
        Buffer gradients_, scratch_, left_, right_;
        Gradients gradients;
        float *scratch, *left, *right;  // the last two: factors of a product
        double loss;
        int64_t correct;
    };

    CausalAttention attention() const {
        return {batch_->length, m_.head_dim, m_.heads / m_.kv_heads, m_.scale, matmul()};
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
            packed.gate.allocate(m_.d_ff, m_.d_model);
            packed.up.allocate(m_.d_ff, m_.d_model);
            packed.down.allocate(m_.d_model, m_.d_ff);
        }
        head_weight_.allocate(m_.vocab_size, m_.d_model);
        x_ = last_.get(n * d), d_x_ = d_last_.get(n * d);
        d_y_ = d_output_.get(n * m_.q_size()), d_qkv_ = d_projected_.get(n * m_.qkv_size());
        // what `score` and `feed_forward_backward` hold of a chunk
        const int widest = std::max({m_.d_model, m_.q_size(), m_.qkv_size(), m_.vocab_size});
        const int64_t local = CHUNK * (3 * d + 4 * COLUMNS + in_panels(m_.vocab_size)) +
                              4 * packed_size(CHUNK, std::max(m_.d_model, COLUMNS));
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

    void pack_weights(int thread, Own& own) {
        const auto pack = [&](PackedMatrix& packed, const float* weight, int out, int in) {
            packed.pack_part(matmul(), weight, out, in, thread, threads_, own.left);
        };
        const int d = m_.d_model, f = m_.d_ff;
        for (int n = 0; n < m_.num_layers; n++) {
            const LayerWeights& w = m_.layers[n];
            PackedLayer& packed = packed_[n];
            pack(packed.qkv, w.qkv, m_.qkv_size(), d);
            pack(packed.gate, w.gate_up, f, d);
            pack(packed.up, w.gate_up + int64_t(f) * d, f, d);
            pack(packed.out, w.out, d, m_.q_size());
            pack(packed.down, w.down, d, f);
        }
        pack(head_weight_, head(), m_.vocab_size, d);
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

    bool rounds() const { return CAN_ROUND && learns() && batch_->bfloat16; }

    Matmul matmul() const { return Matmul(rounds()); }

    // C (rows, columns) = A B, or C += A B, for a weight B
    void product(const float* a, int a_stride, const float* packed, float* c, int c_stride, int rows,
                 int columns, int depth, bool add, Own& own) const {
        const auto left = matmul().left(a, a_stride, rows, depth, own.left);
        matmul().multiply(left, packed, c, c_stride, rows, columns, depth, add);
    }

    // the gradient of a weight (rows, columns) += A^T B
    void add_gradient(const float* a, int a_stride, const float* b, int b_stride, float* gradient,
                      int rows, int columns, int depth, Own& own) const {
        matmul().pack_right(b, b_stride, depth, columns, own.right);
        add_gradient(a, a_stride, own.right, gradient, rows, columns, depth, own);
    }

    // the same for a packed B
    void add_gradient(const float* a, int a_stride, const float* packed, float* gradient, int rows,
                      int columns, int depth, Own& own) const {
        const auto left = matmul().left_transposed(a, a_stride, rows, depth, own.left);
        matmul().multiply(left, packed, gradient, columns, rows, columns, depth, true);
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
        const int d = m_.d_model, f = m_.d_ff, rows = chunk.size();
        const int64_t first = int64_t(chunk.begin) * d;
        Scratch memory{own.scratch};
        float* room = memory.take(CHUNK * d);
        float* h = memory.take(CHUNK * d);
        float* gate = memory.take(CHUNK * COLUMNS);
        float* up = memory.take(CHUNK * COLUMNS);
        float* hidden = memory.take(CHUNK * COLUMNS);
        float* rounded = memory.take(packed_size(CHUNK, d));
        // 1. x + the output of attention
        float* middle = k.middle + first;
        add_update(2 * n, k.x, middle, chunk, room, [&](float* to, bool add) {
            product(k.y + int64_t(chunk.begin) * m_.q_size(), m_.q_size(), packed_[n].out.forward, to, d,
                    rows, d, m_.q_size(), add, own);
        });
        // 2. + the feed-forward layer, some columns at a time
        norm(k.middle, m_.layers[n].mlp_norm, h, chunk);
        const auto left = matmul().left(h, d, rows, d, rounded);
        add_update(2 * n + 1, k.middle, stream(n + 1) + first, chunk, room, [&](float* to, bool add) {
            for (int begin = 0; begin < f; begin += COLUMNS) {
                const int columns = std::min(COLUMNS, f - begin);
                for (const auto& [packed, out] : {std::pair{&packed_[n].gate, gate}, {&packed_[n].up, up}}) {
                    matmul().multiply(left, matmul().part(packed->forward, d, 0, begin), out, COLUMNS,
                                      rows, columns, d, false);
                }
                for (int i = 0; i < rows; i++) {
                    const int at = i * COLUMNS;
                    swiglu(gate + at, up + at, hidden + at, columns);
                    if (learns()) keep_gate_up(k, chunk.begin + i, begin, gate + at, up + at, columns);
                }
                matmul().multiply(matmul().left(hidden, COLUMNS, rows, columns, own.left),
                                  matmul().part(packed_[n].down.forward, f, begin, 0), f, to, d, rows,
                                  d, columns, add || begin > 0);
            }
        });
    }

    void keep_gate_up(Kept& k, int64_t position, int begin, const float* gate, const float* up,
                      int columns) const {
        const int64_t row = position * 2 * m_.d_ff + begin;
        for (const auto& [from, at] : {std::pair{gate, row}, {up, row + m_.d_ff}}) {
            if (rounds()) {
                round_to(from, reinterpret_cast<uint16_t*>(k.gate_up) + at, columns);
            } else {
                std::copy_n(from, columns, k.gate_up + at);
            }
        }
    }

    // next = x + an update, of which elements may be dropped; `place` is that of the layer in the
    // model, and update(to, add) writes or adds it
    template <class Function>
    void add_update(int place, const float* x, float* next, Span chunk, float* room,
                    const Function& update) const {
        const int64_t d = m_.d_model, first = chunk.begin * d, size = chunk.size() * d;
        if (!drops()) {
            std::copy_n(x + first, size, next);
            return update(next, true);
        }
        update(room, false);
        batch_->dropout.add_rest(place, first, size, x + first, room, next);
    }

    // the derivative of the update in `add_update` by that of its result
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
        norm(x_, m_.norm, h, chunk);
        product(h, d, head_weight_.forward, logits, room, rows, m_.vocab_size, d, false, own);
        for (int i = 0; i < rows; i++) {
            int correct;
            own.loss += cross_entropy(logits + int64_t(i) * room, m_.vocab_size, room,
                                      batch_->targets[chunk.begin + i], &correct);
            own.correct += correct;
        }
        if (!learns()) return;
        add_gradient(logits, room, h, d, own.gradients.head, m_.vocab_size, d, rows, own);
        product(logits, room, head_weight_.backward, d_h, d, rows, d, m_.vocab_size, false, own);
        std::fill_n(d_x_ + int64_t(chunk.begin) * d, int64_t(rows) * d, 0.0f);
        norm_backward(x_, m_.norm, d_h, own.gradients.norm, chunk);
    }

    void feed_forward_backward(int n, Span chunk, Own& own) {
        Kept& k = kept(n);
        const LayerWeights& w = m_.layers[n];
        const PackedLayer& packed = packed_[n];
        LayerGradients& g = own.gradients.layers[n];
        const int d = m_.d_model, f = m_.d_ff, rows = chunk.size(), width = m_.q_size();
        Scratch memory{own.scratch};
        float* room = memory.take(CHUNK * d);
        float* h = memory.take(CHUNK * d);
        float* d_h = memory.take(CHUNK * d);
        float* hidden = memory.take(CHUNK * COLUMNS);
        float* d_hidden = memory.take(CHUNK * COLUMNS);
        float* d_gate = memory.take(CHUNK * COLUMNS);
        float* d_up = memory.take(CHUNK * COLUMNS);
        float* packed_h = memory.take(packed_size(CHUNK, d));
        float* packed_hidden = memory.take(packed_size(CHUNK, COLUMNS));
        float* update_along = memory.take(packed_size(CHUNK, d));
        float* update_across = memory.take(packed_size(d, CHUNK));
        // 1. the feed-forward layer, some columns at a time
        const float* d_update = update_backward(2 * n + 1, chunk, room);
        norm(k.middle, w.mlp_norm, h, chunk);
        matmul().pack_right(h, d, rows, d, packed_h);
        const auto along = matmul().left(d_update, d, rows, d, update_along);
        const auto across = matmul().left_transposed(d_update, d, d, rows, update_across);
        for (int begin = 0; begin < f; begin += COLUMNS) {
            const int columns = std::min(COLUMNS, f - begin);
            matmul().multiply(along, matmul().part(packed.down.backward, d, 0, begin), d_hidden, COLUMNS,
                              rows, columns, d, false);
            for (int i = 0; i < rows; i++) {
                const int64_t from = int64_t(chunk.begin + i) * 2 * f + begin;
                const int at = i * COLUMNS;
                const auto apply = [&](const auto* gate_up) {
                    swiglu_backward(gate_up + from, gate_up + from + f, d_hidden + at, hidden + at,
                                    d_gate + at, d_up + at, columns);
                };
                if (rounds()) {
                    apply(reinterpret_cast<const uint16_t*>(k.gate_up));
                } else {
                    apply(k.gate_up);
                }
            }
            matmul().pack_right(hidden, COLUMNS, rows, columns, packed_hidden);
            matmul().multiply(across, packed_hidden, g.down + begin, f, d, columns, rows, true);
            for (const auto& [weight, d_out, row] :
                 {std::tuple{&packed.gate, d_gate, begin}, {&packed.up, d_up, begin + f}}) {
                add_gradient(d_out, COLUMNS, packed_h, g.gate_up + int64_t(row) * d, columns, d, rows, own);
                matmul().multiply(matmul().left(d_out, COLUMNS, rows, columns, own.left),
                                  matmul().part(weight->backward, f, begin, 0), f, d_h, d, rows, d,
                                  columns, row > 0);
            }
        }
        norm_backward(k.middle, w.mlp_norm, d_h, g.mlp_norm, chunk);
        // 2. the output of attention
        const float* y = k.y + int64_t(chunk.begin) * width;
        d_update = update_backward(2 * n, chunk, room);
        add_gradient(d_update, d, y, width, g.out, d, width, rows, own);
        product(d_update, d, packed.out.backward, d_y_ + int64_t(chunk.begin) * width, width, rows,
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
        norm(k.x, w.attention_norm, h, chunk);
        add_gradient(d_qkv, width, h, d, g.qkv, width, d, rows, own);
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
