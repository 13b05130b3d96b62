"""The n-gram baseline against its formula written out by hand, and a known figure."""

import math
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from scriven.errors import InputError
from scriven.evaluate import ngram
from scriven.evaluate.ngram import NGram, default_order


def by_hand(
    train: Sequence[int],
    history: Sequence[int],
    token: int,
    vocab_size: int,
    order: int,
    *,
    planted_bug: bool = False,
) -> float:
    """The formula of the module, by recursion over plain counts."""
    if order == 0:
        return 1 / vocab_size
    length = order - 1
    lower = by_hand(train, history, token, vocab_size, length)
    if len(history) < length:
        return lower
    context = tuple(history[len(history) - length :])
    after = Counter(
        train[i + length]
        for i in range(len(train) - length)
        if tuple(train[i : i + length]) == context
    )
    if not after:
        return lower
    kinds = 1 if planted_bug else len(after)
    return (after[token] + kinds * lower) / (after.total() + kinds)


def random_text(seed: int, length: int, vocab_size: int) -> np.ndarray:
    """Skewed and repetitive, so that some histories are known and some are not."""
    generator = np.random.default_rng(seed)
    return (generator.integers(0, vocab_size, length) * generator.random(length)).astype(np.int64)


@pytest.mark.parametrize("order", [1, 2, 3, 5])
@pytest.mark.parametrize("given", [False, True])
def test_every_probability_equals_the_formula(order: int, given: bool) -> None:
    train, tokens = random_text(1, 200, 7), random_text(2, 60, 7)
    context = train[-10:] if given else None
    model = NGram.fit(train, vocab_size=7, order=order)
    found = model.probabilities(tokens, context)
    history = list(context) if context is not None else []
    for token, probability in zip(tokens.tolist(), found.tolist(), strict=True):
        expected = by_hand(train.tolist(), history, token, 7, order)
        assert probability == pytest.approx(expected, rel=1e-12)
        history.append(token)


def test_a_wrong_formula_is_noticed() -> None:
    train, tokens = random_text(1, 200, 7), random_text(2, 60, 7)
    found = NGram.fit(train, vocab_size=7, order=3).probabilities(tokens).tolist()
    wrong = [
        by_hand(train.tolist(), tokens[:i].tolist(), int(tokens[i]), 7, 3, planted_bug=True)
        for i in range(len(tokens))
    ]
    assert max(abs(a - b) for a, b in zip(found, wrong, strict=True)) > 1e-3


def test_probabilities_of_all_tokens_add_up_to_one() -> None:
    train = random_text(3, 300, 11)
    model = NGram.fit(train, vocab_size=11, order=4)
    for seed in range(20):
        history = random_text(seed, 3, 11)
        total = sum(model.probabilities(np.array([w]), history)[0] for w in range(11))
        assert total == pytest.approx(1.0, abs=1e-12)


def test_loss_is_the_mean_over_every_token_however_it_is_cut(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train, tokens = random_text(4, 500, 9), random_text(5, 101, 9)
    model = NGram.fit(train, vocab_size=9, order=4)
    expected = -float(np.log(model.probabilities(tokens, train)).mean())
    assert model.loss(tokens, train) == pytest.approx(expected, rel=1e-12)
    monkeypatch.setattr(ngram, "CHUNK", 7)
    assert model.loss(tokens, train) == pytest.approx(expected, rel=1e-12)


def test_only_the_last_tokens_of_a_very_long_text_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train, tokens = random_text(6, 400, 5), random_text(7, 50, 5)
    monkeypatch.setattr(ngram, "MAX_TOKENS", 100)
    model = NGram.fit(train, vocab_size=5)
    assert model.tokens == 100
    assert model.loss(tokens) == NGram.fit(train[-100:], vocab_size=5).loss(tokens)


@pytest.mark.parametrize("length", [0, 1, 2, 3])
def test_a_text_shorter_than_the_order_still_gives_a_loss(length: int) -> None:
    model = NGram.fit(random_text(8, length, 6), vocab_size=6, order=5)
    loss = model.loss(random_text(9, 20, 6))
    assert 0 < loss < 2 * math.log(6)
    if not length:
        assert loss == pytest.approx(math.log(6))


def test_nothing_to_score_is_refused_in_one_line() -> None:
    with pytest.raises(InputError, match="validation"):
        NGram.fit(np.array([1, 2]), vocab_size=3).loss(np.array([], dtype=np.int64))


def test_a_large_vocabulary_and_small_integer_types_are_exact() -> None:
    vocab_size = 60_000
    train = np.random.default_rng(0).integers(0, vocab_size, 5000).astype(np.uint16)
    tokens = np.concatenate([train[100:200], train[:50]])
    found = NGram.fit(train, vocab_size=vocab_size, order=3).probabilities(tokens)
    for i in (0, 1, 2, 50, 99, 100, 101, 149):
        history = tokens[:i].tolist()
        expected = by_hand(train.tolist(), history, int(tokens[i]), vocab_size, 3)
        assert found[i] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("outside", [-1, 5])
def test_a_token_outside_the_vocabulary_is_never_counted(outside: int) -> None:
    """It would be taken for another gram."""
    with pytest.raises(AssertionError):
        NGram.fit(np.array([0, outside, 4]), vocab_size=5)
    with pytest.raises(AssertionError):
        NGram.fit(np.array([0, 4]), vocab_size=5).loss(np.array([outside]))


def test_the_order_goes_by_the_kind_of_tokenizer() -> None:
    assert [default_order(kind) for kind in ("char", "byte", "bpe", "word")] == [5, 5, 3, 3]


def test_tiny_shakespeare_by_characters_gives_the_known_figure(shared_data: Path) -> None:
    text = (shared_data / "tinyshakespeare.txt").read_text(encoding="utf-8")
    points = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
    _, ids = np.unique(points, return_inverse=True)
    start = time.perf_counter()
    model = NGram.fit(ids[:1_003_854], vocab_size=65)
    assert model.loss(ids[1_003_854:]) == pytest.approx(1.669, abs=0.003)
    assert time.perf_counter() - start < 10  # 0.5 s on an idle machine
