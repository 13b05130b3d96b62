// The next token of each row: temperature, top-k, top-p, min-p, and one draw, in float64, as the
// logits processors in generate/logits/ compute them one after the other.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <vector>

namespace {

constexpr double NEVER = -std::numeric_limits<double>::infinity();
constexpr int SORTED_FIRST = 512;  // best tokens that top-p sorts first

struct Candidates {
    std::vector<double> scores;
    std::vector<int32_t> ids;
};

// puts the `count` best candidates first, the best of them first
void sort_best(Candidates& from, size_t count) {
    std::vector<int32_t> order(from.scores.size());
    std::iota(order.begin(), order.end(), 0);
    const auto is_better = [&](int32_t one, int32_t other) {
        const double first = from.scores[one], second = from.scores[other];
        return first > second || (first == second && one < other);
    };
    if (count < order.size()) {
        std::nth_element(order.begin(), order.begin() + count, order.end(), is_better);
        order.resize(count);
    }
    std::sort(order.begin(), order.end(), is_better);
    Candidates sorted;
    for (const int32_t place : order) {
        sorted.scores.push_back(from.scores[place]);
        sorted.ids.push_back(from.ids[place]);
    }
    from = std::move(sorted);
}

// keeps the likeliest tokens that together have probability `top_p`, at least one
void keep_nucleus(Candidates& candidates, double top_p) {
    double total = 0;
    for (const double score : candidates.scores) total += std::exp(score);
    for (size_t size = SORTED_FIRST;; size = candidates.scores.size()) {
        Candidates best = candidates;
        sort_best(best, size);
        double before = 0;
        size_t kept = 0;
        while (kept < best.scores.size() && before < top_p) {
            before += std::exp(best.scores[kept++]) / total;
        }
        if (before >= top_p || best.scores.size() == candidates.scores.size()) {
            best.scores.resize(kept), best.ids.resize(kept);
            candidates = std::move(best);
            return;
        }
    }
}

int64_t draw(const float* logits, int vocab_size, double temperature, int top_k, double top_p,
             double min_p, double uniform) {
    // 1. the best token; a greedy choice ends here
    int best = 0;
    for (int i = 0; i < vocab_size; i++) {
        if (std::isnan(logits[i])) return -1;
        if (logits[i] > logits[best]) best = i;
    }
    if (!std::isfinite(logits[best])) return -1;
    if (temperature == 0) return best;
    // 2. scores, of which the best is 0
    Candidates candidates;
    candidates.scores.resize(vocab_size);
    candidates.ids.resize(vocab_size);
    std::iota(candidates.ids.begin(), candidates.ids.end(), 0);
    const double largest = logits[best];
    for (int i = 0; i < vocab_size; i++) candidates.scores[i] = (logits[i] - largest) / temperature;
    // 3. truncation
    if (top_k > 0 && top_k < vocab_size) sort_best(candidates, top_k);
    if (top_p < 1) keep_nucleus(candidates, top_p);
    const double least = min_p > 0 ? std::log(min_p) : NEVER;
    // 4. inverse transform sampling
    double total = 0;
    for (double& score : candidates.scores) {
        total += score < least ? 0.0 : std::exp(score);
        score = total;  // from here on the cumulative weight
    }
    const double threshold = uniform * total;
    const auto found = std::upper_bound(candidates.scores.begin(), candidates.scores.end(), threshold);
    const size_t place = found - candidates.scores.begin();
    return candidates.ids[std::min(place, candidates.ids.size() - 1)];
}

}  // namespace

extern "C" struct Sampling {
    double temperature, top_p, min_p;
    int64_t top_k;
    double uniform;
};

// logits (rows, vocab_size) and the settings of each row -> tokens; -1 where no logit is finite
inline void draw_each(const float* logits, int rows, int vocab_size, const Sampling* settings,
                      int64_t* tokens) {
    for (int row = 0; row < rows; row++) {
        const Sampling& own = settings[row];
        tokens[row] = draw(logits + int64_t(row) * vocab_size, vocab_size, own.temperature,
                           int(std::min<int64_t>(own.top_k, vocab_size)), own.top_p, own.min_p,
                           own.uniform);
    }
}
