"""The likelihood of continuations, many at once, is that of each alone, computed the plain way."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import scriven
from scriven import registry
from scriven.data.batch import Batch
from scriven.errors import InputError
from scriven.evaluate import loglikelihood
from scriven.evaluate.loglikelihood import LoglikelihoodScorer, encode_pair
from scriven.runtime import choose_runtime
from scriven.settings import RuntimeSettings, TokenizerSettings
from scriven.tokenizers import Tokenizer, byte, train_tokenizer

CONTEXT = 8
RUNTIME = choose_runtime(RuntimeSettings(device="cpu", dtype="float32"))
BYTES = byte.train([], TokenizerSettings(kind="byte")).with_special_tokens("mask", "delimiter")
PAIRS = [
    ("ab", "c"),
    ("It was a dark", " night"),  # longer than the context
    ("x", "yz"),
    ("", "hm"),
    ("so ", "what"),
    ("end", ""),
    ("ab", "d"),
]


def make(name: str, task: str | None = None) -> LoglikelihoodScorer:
    """A small model with weights so large that every token matters, in float64."""
    torch.manual_seed(0)
    module = registry.module("scriven.models", name)
    config = module.Config(
        vocab_size=BYTES.vocab_size, context_length=CONTEXT, layers=2, d_model=16
    )
    kind = registry.module("scriven.tasks", task or module.Model.pretraining_task).Task
    made = kind(module.Model(config), special=BYTES.special_token_ids)
    with torch.no_grad():
        for weight in made.parameters():
            weight.normal_(0, 0.4)
    return LoglikelihoodScorer(made.double().eval(), BYTES, RUNTIME)


def decoder(scorer: LoglikelihoodScorer, text: str, after: str) -> tuple[float, bool]:
    """One row, nothing padded: all that fits of the text, and the continuation."""
    bare = text.rstrip()
    before = BYTES.encode(bare) or [BYTES.eos]
    scored = BYTES.encode(text[len(bare) :] + after)
    whole = before + scored
    if not scorer.task.backbone.is_recurrent:
        whole = whole[-CONTEXT - 1 :]
    tokens = torch.tensor([whole[:-1]])
    state = scorer.task.backbone.recurrent_state(1)
    parts = tokens.split(CONTEXT, 1) if state is not None else (tokens,)
    hidden = torch.cat([scorer.task.backbone(part, state) for part in parts], 1)
    return told(scorer.task.logits(hidden)[0], scored)


def encoder_decoder(scorer: LoglikelihoodScorer, text: str, after: str) -> tuple[float, bool]:
    """The source as it was trained: the end of the text, and the mark."""
    bare = text.rstrip()
    scored = BYTES.encode(text[len(bare) :] + after)
    if not scored:
        return 0.0, True
    mask, pad = BYTES.special_token_ids["mask"], BYTES.pad
    total, likeliest = 0.0, True
    first = len(scored) % 4 or 4
    starts = [0, *range(first, len(scored), 4)]
    for start, stop in zip(starts, [*starts[1:], len(scored)], strict=True):
        source = [*(BYTES.encode(bare) + scored[:start])[-CONTEXT + 1 :], mask]
        tokens = [pad, mask, *scored[start : stop - 1]]
        hidden = scorer.task.hidden(
            Batch(torch.tensor([tokens]), torch.tensor([tokens]), source=torch.tensor([source]))
        )
        nats, greedy = told(scorer.task.logits(hidden)[0], scored[start:stop])
        total, likeliest = total + nats, likeliest and greedy
    return total, likeliest


def told(logits: torch.Tensor, scored: list[int]) -> tuple[float, bool]:
    """(nats, greedy) of the last tokens."""
    if not scored:
        return 0.0, True
    logits, wanted = logits[-len(scored) :], torch.tensor(scored)
    nats = logits.log_softmax(-1).gather(1, wanted[:, None]).sum()
    return float(nats), bool((logits.argmax(-1) == wanted).all())


PLAIN: dict[str, Callable[[LoglikelihoodScorer, str, str], tuple[float, bool]]] = {
    "llama": decoder,
    "gpt2": decoder,
    "rnn": decoder,
    "transformer_xl": decoder,
    "transformer": encoder_decoder,
}


@torch.no_grad()
def difference(name: str) -> float:
    """The largest between all at once and each alone."""
    scorer = make(name)
    found = scorer.loglikelihood(PAIRS)
    alone = [PLAIN[name](scorer, *pair) for pair in PAIRS]
    assert [each.greedy for each in found] == [greedy for _, greedy in alone]
    return max(abs(each.nats - nats) for each, (nats, _) in zip(found, alone, strict=True))


@pytest.mark.parametrize("name", PLAIN)
def test_many_at_once_are_as_each_alone(name: str) -> None:
    assert difference(name) < 1e-9


@pytest.mark.parametrize("name", ["llama", "transformer"])
def test_an_answer_is_scored_as_in_training(name: str) -> None:
    scorer = make(name, "translate")
    assert not scorer.task.echo_prompt
    question, answer = "ein", "a"
    (found,) = scorer.loglikelihood([(question, answer)])
    ids = BYTES.encode(answer)
    example = scorer.task.build_example(BYTES.encode(question), ids)
    batch = scorer.task.collate([example], torch.device("cpu"))
    with torch.no_grad():
        loss = float(scorer.task(batch).loss)
    assert found.nats == pytest.approx(-loss, abs=1e-9)
    with pytest.raises(InputError, match="longer than the"):
        scorer.loglikelihood([(question, "much too long for it")])
    with pytest.raises(InputError, match="gives a text alone no probability"):
        scorer.loglikelihood_rolling("a text")


def test_padding_taken_for_text_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: rows filled on the left, as if their tokens stood elsewhere."""

    def left(rows: list[list[int]], value: int) -> torch.Tensor:
        longest = max(map(len, rows))
        return torch.tensor([[value] * (longest - len(row)) + row for row in rows])

    assert difference("llama") < 1e-9
    monkeypatch.setattr(loglikelihood, "pad_rows", left)
    assert difference("llama") > 1e-3


def test_a_target_one_place_too_early_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: each token is predicted from itself."""
    batch = LoglikelihoodScorer._collate

    def shifted(self: LoglikelihoodScorer, rows: list[loglikelihood._Row]) -> Batch:
        made = batch(self, rows)
        return Batch(made.tokens.roll(-1, 1), made.targets, made.positions)

    monkeypatch.setattr(LoglikelihoodScorer, "_collate", shifted)
    assert difference("llama") > 1e-3


@pytest.mark.parametrize("name", PLAIN)
def test_a_long_continuation_counts_whole(name: str) -> None:
    """In windows without overlap, so it is the loss of a text whose length they divide."""
    scorer = make(name)
    text = "The rain fell on the town, and nobody said a word"[: 5 * CONTEXT]
    (found,) = scorer.loglikelihood([("", text)])
    assert found.nats == pytest.approx(scorer.loglikelihood_rolling(text), abs=1e-9)


def test_a_text_that_loses_its_beginning_is_counted() -> None:
    scorer = make("llama")
    # 8 tokens can be read, and the last one of all is only predicted
    found = scorer.loglikelihood([("abcdefg", "hi"), ("abcdefgh", "ij"), ("a", "b" * 20)])
    assert [each.cut for each in found] == [False, True, False]
    long, short = scorer.loglikelihood([("lost" + "bcdefgh", "ij"), ("bcdefgh", "ij")])
    assert long.nats == pytest.approx(short.nats, abs=1e-12)
    assert [each.cut for each in make("rnn").loglikelihood([("a" * 50, "b")])] == [False]


def test_a_model_that_fills_gaps_is_refused() -> None:
    with pytest.raises(InputError, match="writes no text"):
        make("roberta")


def test_a_token_across_the_border_is_scored_once() -> None:
    text = "the king the king loves the king 's crown\n" * 40
    settings = TokenizerSettings(kind="bpe", vocab_size=300)
    tokenizer: Tokenizer = train_tokenizer("bpe", iter([text]), settings)
    assert len(tokenizer.encode(" king")) == 1
    # the space goes with the word that follows it
    before, after = encode_pair(tokenizer, "the ", "king")
    assert (before, after) == (tokenizer.encode("the"), tokenizer.encode(" king"))
    # a cut within a token: what follows after as many tokens as the text has alone
    before, after = encode_pair(tokenizer, "the k", "ing loves the king")
    assert [tokenizer.decode([token]) for token in before] == ["the", " ", "k"]
    assert tokenizer.decode(after) == " the king"
    # swallowed by the text's last token: scored by itself rather than not at all
    before, after = encode_pair(tokenizer, "the k", "ing")
    assert after == tokenizer.encode("ing")


@pytest.mark.parametrize("name", ["llama", "rnn", "transformer"])
def test_a_whole_text_is_measured_as_evaluate_measures_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = "It was a dark and stormy night; she said nothing – and the rain fell on.\n" * 40
    Path("book.txt").write_text(text, encoding="utf-8")
    settings = {
        "model.layers": 1,
        "model.d_model": 16,
        "model.context_length": 16,
        "tokenizer.kind": "byte",
        "runtime.dtype": "float32",
        "train.sample_seconds": 0,
    }
    model = scriven.train("book.txt", arch=name, budget="2steps", settings=settings, quiet=True)
    Path("other.txt").write_text(text[:700], encoding="utf-8")
    known = model.evaluate("other.txt")
    found = LoglikelihoodScorer(model.task, model.tokenizer, model.runtime).loglikelihood_rolling(
        text[:700]
    )
    assert found == pytest.approx(-known["loss"] * known["tokens"], rel=1e-9)


def test_greedy_is_what_the_model_would_write() -> None:
    scorer = make("llama")
    ids = BYTES.encode("ab")
    with torch.no_grad():
        logits = scorer.task.logits(scorer.task.backbone(torch.tensor([ids])))[0, -1]
    likeliest = int(logits[:128].argmax())  # a byte that is a character by itself
    logits = F.one_hot(torch.tensor(likeliest), BYTES.vocab_size).double() * 9
    scorer.task.logits = lambda hidden: logits.expand(*hidden.shape[:-1], -1)
    letter = BYTES.decode([likeliest])
    wrong = "a" if letter != "a" else "b"
    found = scorer.loglikelihood([("ab", letter), ("ab", letter * 3), ("ab", letter + wrong)])
    assert [each.greedy for each in found] == [True, True, False]
