"""Beam search against every possible text, against greedy writing, and against itself."""

import itertools
import math
from contextlib import nullcontext
from functools import cache
from types import ModuleType
from typing import Any

import pytest
import torch

from scriven.errors import SettingError
from scriven.generate.beam import BeamSearchParams, Hypothesis, beam_search
from scriven.generate.engine import Engine
from scriven.generate.model_runner import ModelRunner
from scriven.generate.sampling import SamplingParams
from scriven.generate.sequence import completes_stop_string
from scriven.models import gpt3, llama, rnn, transformer, transformer_xl
from scriven.nn.cache import Cache, CrossCache, KVCache, RecurrentState
from scriven.tasks.base import BaseTask
from scriven.tasks.language import Language
from scriven.tasks.pairs import Pairs
from scriven.tasks.seq2seq import Seq2Seq
from scriven.tokenizers.base import Tokenizer

VOCABULARY, EOS, PAD, MASK = 5, 0, 3, 4
SPECIAL = {"eos": EOS, "pad": PAD, "mask": MASK}
PROMPTS = [[1, 2, 1], [2], [1, 1, 2, 2, 1]]
KINDS: dict[str, tuple[ModuleType, type[BaseTask]]] = {
    "llama": (llama, Language),
    "gpt3": (gpt3, Language),
    "rnn": (rnn, Language),
    "transformer_xl": (transformer_xl, Language),
    "pairs": (transformer, Pairs),
    "seq2seq": (transformer, Seq2Seq),
}


def make(kind: str, context_length: int = 10, vocab_size: int = VOCABULARY) -> BaseTask:
    """Weights so large that every token matters to the next, in float64."""
    architecture, task = KINDS[kind]
    heads = {} if kind == "rnn" else {"heads": 2}
    sizes = {"context_length": context_length, "layers": 2, "d_model": 16}
    config = architecture.Config(vocab_size, **sizes, **heads)
    made = task(architecture.Model(config), special=SPECIAL).double()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, weight in made.named_parameters():
            drawn = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
            weight.copy_(drawn if "norm" not in name or "bias" in name else 1 + 0.1 * drawn)
            if "token" in name:
                weight.mul_(0.4)
    return made.eval()


def runner(task: BaseTask, vocab_size: int = VOCABULARY) -> ModelRunner:
    return ModelRunner(task, vocab_size, [PAD, MASK], nullcontext)


@torch.no_grad()
def said(task: BaseTask, prompt: list[int], ids: list[int]) -> list[float]:
    """Log-probability of each of `ids` after a prompt, without caches or batches."""
    found = []
    for written in range(len(ids)):
        source, tokens = task.build_inputs([*prompt, *ids[:written]], written)
        backbone: Any = task.backbone
        more = {} if source is None else {"source": torch.tensor([source])}
        logits = task.logits(backbone(torch.tensor([tokens]), **more))[0, -1].clone()
        logits[[PAD, MASK]] = -math.inf
        found.append(float(logits.log_softmax(-1)[ids[written]]))
    return found


@cache
def log_probs(kind: str, prompt: tuple[int, ...], limit: int) -> dict[tuple[int, ...], float]:
    """All texts there are, with the log-probability of each; the same for every penalty."""
    task = make(kind)
    texts: list[tuple[int, ...]] = []
    for length in range(1, limit + 1):
        for begin in itertools.product((1, 2), repeat=length - 1):
            texts += [(*begin, last) for last in ((EOS, 1, 2) if length == limit else (EOS,))]
    return {ids: sum(said(task, [*prompt], [*ids])) for ids in texts}


def every(kind: str, prompt: list[int], limit: int, penalty: float) -> list[Hypothesis]:
    """All texts there are, the best first."""
    texts = log_probs(kind, tuple(prompt), limit).items()
    scored = [Hypothesis([*ids], total / len(ids) ** penalty) for ids, total in texts]
    return sorted(scored, key=lambda each: -each.score)


def same(found: list[Hypothesis], truth: list[Hypothesis]) -> bool:
    close = all(abs(a.score - b.score) < 1e-9 for a, b in zip(found, truth, strict=True))
    return close and [a.ids for a in found] == [b.ids for b in truth]


@pytest.mark.parametrize("penalty", [-1.0, 0.0, 1.0, 2.0])
@pytest.mark.parametrize("kind", KINDS)
def test_a_wide_beam_finds_the_best_of_all_texts(kind: str, penalty: float) -> None:
    task, limit = make(kind), 4
    plan = BeamSearchParams(40, limit, penalty, frozenset({EOS}), num_return=6)
    for prompt, found in zip(PROMPTS, beam_search(runner(task), PROMPTS, plan), strict=True):
        assert same(found, every(kind, prompt, limit, penalty)[:6])


def spoil_rows(state: Cache, rows: torch.Tensor, *, sources: bool = True) -> None:
    """Every beam takes another's place."""
    select(state, rows.flip(0), sources=sources)


select = Cache.reorder


@pytest.mark.parametrize("kind", KINDS)
def test_the_comparison_notices_caches_of_another_beam(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, plan = make(kind), BeamSearchParams(40, 4, 1.0, frozenset({EOS}), num_return=6)
    monkeypatch.setattr(Cache, "reorder", spoil_rows)
    found = beam_search(runner(task), PROMPTS[:1], plan)[0]
    assert not same(found, every(kind, PROMPTS[0], 4, 1.0)[:6])


@pytest.mark.parametrize(
    ("kind", "part"), [("llama", KVCache), ("rnn", RecurrentState), ("pairs", CrossCache)]
)
def test_the_comparison_notices_a_part_that_keeps_its_rows(
    kind: str, part: type[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows are as many as before, so nothing fails: they are only those of others."""
    task, plan = make(kind), BeamSearchParams(2, 5, 1.0, frozenset({EOS}), num_return=2)
    truth = [beam_search(runner(task), [prompt], plan)[0] for prompt in PROMPTS]
    kept = part.reorder

    def first(self: Any, rows: torch.Tensor) -> None:
        kept(self, torch.arange(len(rows)) % (int(rows.max()) + 1))

    monkeypatch.setattr(part, "reorder", first)
    found = beam_search(runner(task), PROMPTS, plan)
    assert not all(same(a, b) for a, b in zip(found, truth, strict=True))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("beams", [1, 3])
def test_a_prompt_among_others_gives_what_it_gives_alone(kind: str, beams: int) -> None:
    task = make(kind)
    plan = BeamSearchParams(
        beams, 25, 0.7, frozenset({EOS}), num_return=beams
    )  # more than a context
    together = beam_search(runner(task), PROMPTS, plan)
    for prompt, found in zip(PROMPTS, together, strict=True):
        assert same(found, beam_search(runner(task), [prompt], plan)[0])


class Counting(ModelRunner):
    """Counts its steps."""

    def __init__(self, task: BaseTask) -> None:
        super().__init__(task, VOCABULARY, [PAD, MASK], nullcontext)
        self.steps = 0

    def decode(self, ids: torch.Tensor) -> torch.Tensor:
        self.steps += 1
        return super().decode(ids)


def test_the_search_ends_as_soon_as_nothing_better_can_come() -> None:
    """Never later than the bound allows, and never before: the result is that of a full search."""
    task = make("llama", context_length=64)
    for penalty in (-1.0, 0.0, 0.5, 1.0):
        quick = BeamSearchParams(3, 30, penalty, frozenset({EOS}))
        full = BeamSearchParams(3, 30, penalty, frozenset({EOS}), num_return=3)
        object.__setattr__(full, "bound", lambda total, length: math.inf)
        mine, whole = Counting(task), Counting(task)
        found, last = beam_search(mine, PROMPTS, quick), beam_search(whole, PROMPTS, full)
        assert all(same(a, b[:1]) for a, b in zip(found, last, strict=True))
        assert whole.steps == 29
        assert mine.steps < 29 or penalty > 0


@pytest.mark.parametrize("limit", [0, 1, 40])
def test_one_beam_is_greedy(random_task: Language, tokenizer: Tokenizer, limit: int) -> None:
    engine = Engine(random_task, tokenizer)
    prompts = ["", "It was", "é🙂", "x" * 40]
    stop = tuple("abcdefg")
    greedy = engine.generate(prompts, SamplingParams(temperature=0), limit, stop=stop)
    for one, other in zip(greedy, engine.beam_search(prompts, 1, limit, stop=stop), strict=True):
        assert (one.text, one.tokens, one.finish_reason) == (
            other.text,
            other.tokens,
            other.finish_reason,
        )
        assert one.prompt_truncated == other.prompt_truncated


def test_more_beams_never_give_less_likely_texts_here(
    random_task: Language, tokenizer: Tokenizer
) -> None:
    engine = Engine(random_task, tokenizer)
    scores = [engine.beam_search(["It was"], beams, 8)[0].score for beams in (1, 4, 16)]
    assert scores[0] is not None
    assert scores == sorted(scores)
    assert scores[0] < scores[-1]


def test_the_next_best_come_with_their_scores(random_task: Language, tokenizer: Tokenizer) -> None:
    engine = Engine(random_task, tokenizer)
    first = engine.beam_search(["It was"], 4, 8, num_return=4)[0]
    scores = [first.score, *(other.score for other in first.others)]
    assert len(scores) == 4
    assert scores == sorted(scores, reverse=True)
    assert len({first.text, *(other.text for other in first.others)}) == 4


def test_an_ignored_end_and_stop_strings(random_task: Language, tokenizer: Tokenizer) -> None:
    engine = Engine(random_task, tokenizer)
    made = engine.beam_search(["It was", "a"], 4, 12, ignore_eos=True)
    assert {(each.tokens, each.finish_reason) for each in made} == {(12, "length")}
    letters = [chr(code) for code in range(128)]
    stopped = engine.beam_search(["It was", "a", "x", " "], 4, 30, stop=letters)
    assert any(each.finish_reason == "stop" for each in stopped)
    assert not any(letter in each.text for each in stopped for letter in letters)


def test_a_stop_string_is_noticed_with_its_last_byte(tokenizer: Tokenizer) -> None:
    over = completes_stop_string(tokenizer, ("é🙂", "ab"))
    assert over is not None
    for text in ("xé🙂", "é🙂", "aab", "ab"):
        ids = tokenizer.encode(text)
        assert [over(ids[:end]) for end in range(1, len(ids) + 1)] == [
            *[False] * (len(ids) - 1),
            True,
        ]
    assert not over(tokenizer.encode("é🙃ba"))
    assert completes_stop_string(tokenizer, ()) is None


def test_token_ids_are_a_prompt(random_task: Language, tokenizer: Tokenizer) -> None:
    engine = Engine(random_task, tokenizer)
    ids = tokenizer.encode("It was")
    assert engine.beam_search([ids], 2, 5)[0].text == engine.beam_search(["It was"], 2, 5)[0].text
    plain = SamplingParams(temperature=0)
    assert engine.generate([ids], plain, 5)[0].text == engine.generate(["It was"], plain, 5)[0].text
    with pytest.raises(Exception, match="-1"):
        engine.beam_search([[-1]], 2, 5)


def test_several_ends_end_a_text(random_task: Language, tokenizer: Tokenizer) -> None:
    engine = Engine(random_task, tokenizer)
    engine.stop_token_ids = frozenset(range(tokenizer.vocab_size - 1))  # whatever comes first
    greedy = engine.generate(["It was"], SamplingParams(temperature=0), 12)[0]
    for made in (greedy, engine.beam_search(["It was"], 4, 12)[0]):
        assert (made.finish_reason, made.tokens) == ("eos", 1)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"beams": 0}, "--beams=0"),
        ({"beams": 65}, "--beams=65"),
        ({"length_penalty": 11}, "--length-penalty=11"),
        ({"length_penalty": math.nan}, "--length-penalty=nan"),
        ({"num_return": 5}, "num_return=5"),
    ],
)
def test_what_cannot_be_searched_is_refused(
    random_task: Language, tokenizer: Tokenizer, settings: dict[str, Any], named: str
) -> None:
    with pytest.raises(SettingError, match=named):
        Engine(random_task, tokenizer).beam_search(["a"], **settings)


@pytest.mark.parametrize("penalty", [-1.0, 0.0, 0.5, 1.0, 2.0])
def test_no_continuation_exceeds_its_bound(penalty: float) -> None:
    params = BeamSearchParams(3, 12, length_penalty=penalty)
    for length in range(12):
        for log_prob in (-0.1, -3.0):
            ends = [params.score(log_prob, end) for end in range(length + 1, 13)]
            assert params.bound(log_prob, length) == pytest.approx(max(ends))
