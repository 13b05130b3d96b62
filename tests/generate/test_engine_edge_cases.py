"""Ends, stops, broken characters and impossible requests."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scriven.errors import InputError, SettingError
from scriven.generate.engine import Engine
from scriven.generate.sampling import SamplingParams
from scriven.generate.sequence import Sequence
from scriven.tasks.language import Language
from scriven.tokenizers.base import Tokenizer

GREEDY = SamplingParams(temperature=0)
Recite = Callable[[list[int]], Any]


def test_characters_of_several_tokens_arrive_whole(recite: Recite, tokenizer: Tokenizer) -> None:
    text = "naïve 🙂 — 日本語"
    script = tokenizer.encode(text)
    assert len(script) > len(text)
    steps = list(Engine(recite(script), tokenizer).stream("a", GREEDY, len(script)))
    assert "".join(step.text for step in steps) == text
    assert all("\ufffd" not in step.text for step in steps)


def test_a_character_cut_by_the_limit_is_the_same_in_both_ways(
    recite: Recite, tokenizer: Tokenizer
) -> None:
    script = tokenizer.encode("ab🙂cd")
    for limit in range(len(script) + 1):
        engine = Engine(recite(script), tokenizer)
        whole = engine.generate(["a"], GREEDY, limit)[0]
        steps = list(engine.stream("a", GREEDY, limit))
        assert (
            "".join(step.text for step in steps) == whole.text == tokenizer.decode(script[:limit])
        )
        assert whole.tokens == limit


def test_a_stop_string_across_tokens_ends_the_text_and_is_left_out(
    recite: Recite, tokenizer: Tokenizer
) -> None:
    script = tokenizer.encode("one END two ENDING three")
    engine = Engine(recite(script), tokenizer)
    found = engine.generate(["a"], GREEDY, len(script), stop="ENDI")[0]
    assert (found.text, found.finish_reason) == ("one END two ", "stop")
    assert found.tokens == len("one END two ENDI")
    pieces = [step.text for step in engine.stream("a", GREEDY, len(script), stop=["ENDI", "zz"])]
    assert "".join(pieces) == "one END two "
    assert not any(piece == "E" for piece in pieces), "the beginning of a stop was shown"


@given(
    script=st.lists(st.integers(0, 255), min_size=1, max_size=40)
    | st.text("aé🙂", min_size=1, max_size=15).map(lambda text: list(text.encode())),
    stops=st.lists(st.text("aé🙂\ufffd", min_size=1, max_size=3), max_size=2),
)
def test_any_bytes_and_any_stops_give_the_decoded_text_up_to_the_stop(
    recite: Recite, tokenizer: Tokenizer, script: list[int], stops: list[str]
) -> None:
    engine = Engine(recite(script), tokenizer)
    whole = engine.generate(["a"], GREEDY, len(script), stop=stops)[0]
    steps = list(engine.stream("a", GREEDY, len(script), stop=stops))
    decoded = tokenizer.decode(script)
    first = min((decoded.find(stop) + len(stop) for stop in stops if stop in decoded), default=None)
    if first is not None:
        longest = max(len(stop) for stop in stops if decoded[:first].endswith(stop))
        decoded = decoded[: first - longest]
    assert whole.text == "".join(step.text for step in steps) == decoded
    assert whole.finish_reason == ("length" if first is None else "stop")


@given(prompt=st.text(max_size=30))
@example("\ud800 half a character")
@settings(max_examples=30, deadline=None)
def test_a_character_model_takes_any_prompt(
    make_task: Callable[[int], Language], letters: Tokenizer, prompt: str
) -> None:
    found = Engine(make_task(16), letters).generate([prompt], SamplingParams(), 5, ignore_eos=True)[
        0
    ]
    assert found.tokens == 5


def test_a_stop_that_never_completes_is_given_out_in_the_end(
    recite: Recite, tokenizer: Tokenizer
) -> None:
    for ending in ([], [tokenizer.eos]):
        script = tokenizer.encode("one EN") + ending
        found = Engine(recite(script), tokenizer).generate(["a"], GREEDY, len(script), stop="END")
        assert found[0].text == "one EN"
        assert found[0].finish_reason == ("eos" if ending else "length")


def test_the_end_of_document_token_ends_the_text(recite: Recite, tokenizer: Tokenizer) -> None:
    script = [*tokenizer.encode("abc"), tokenizer.eos, *tokenizer.encode("def")]
    found = Engine(recite(script), tokenizer).generate(["a"], GREEDY, 7)[0]
    assert (found.text, found.tokens, found.finish_reason) == ("abc", 4, "eos")
    assert found.tokens_per_second == pytest.approx(4 / found.seconds)


def test_an_ignored_end_of_document_is_never_chosen(
    random_task: Language, tokenizer: Tokenizer
) -> None:
    engine = Engine(random_task, tokenizer)
    hot = SamplingParams(temperature=100)
    found = engine.generate(["a"] * 4, hot, 400, ignore_eos=True)
    assert [text.tokens for text in found] == [400] * 4
    assert {text.finish_reason for text in engine.generate(["a"] * 4, hot, 4000)} == {"eos"}


def test_padding_and_ids_beyond_the_tokenizer_are_never_chosen(
    random_task: Language, tokenizer: Tokenizer, written: dict[Sequence, list[int]]
) -> None:
    assert random_task.vocab_size > tokenizer.vocab_size
    wanted = [tokenizer.pad, *range(tokenizer.vocab_size, random_task.vocab_size)]
    logits = random_task.logits

    def tempting(hidden: torch.Tensor) -> torch.Tensor:
        return logits(hidden).index_fill(-1, torch.tensor(wanted), 1e6)

    random_task.logits = tempting  # type: ignore[method-assign]
    engine = Engine(random_task, tokenizer)
    for sampling in (
        GREEDY,
        SamplingParams(temperature=100),
        SamplingParams(repetition_penalty=0.01),
    ):
        engine.generate(["a", "some prompt"], sampling, 300, ignore_eos=True)
    ids = [token for row in written.values() for token in row]
    assert len(ids) == 3 * 2 * 300
    assert not set(ids) & set(wanted)


def test_a_tokenizer_larger_than_the_model_is_refused(recite: Recite, tokenizer: Tokenizer) -> None:
    task = recite([])
    task.vocab_size = tokenizer.vocab_size - 1
    with pytest.raises(InputError, match="tokenizer"):
        Engine(task, tokenizer)


def test_the_name_of_a_special_token_in_a_prompt_is_plain_text(
    random_task: Language, tokenizer: Tokenizer
) -> None:
    engine = Engine(random_task, tokenizer)
    rows = engine.sequences(["<|endoftext|>", "<|pad|>"], 5, (), 0)
    for row in rows:
        assert not {tokenizer.eos, tokenizer.pad} & set(row.window)


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 33, 1_000_000])
def test_a_prompt_of_any_length_is_read_as_documented(
    random_task: Language, tokenizer: Tokenizer, size: int
) -> None:
    engine = Engine(random_task, tokenizer)  # a context of 16
    prompt = ("abcdefgh" * (size // 8 + 1))[:size]
    found = engine.generate([prompt], GREEDY, 6)[0]
    assert found.prompt_truncated == (0 if size <= 16 else size - 12)
    if size > 16:
        assert found.text == engine.generate([prompt[-12:]], GREEDY, 6)[0].text


def test_an_empty_prompt_starts_like_a_new_document(
    random_task: Language, tokenizer: Tokenizer
) -> None:
    rows = Engine(random_task, tokenizer).sequences(["", " ", "\n"], 5, (), 0)
    assert rows[0].window == [tokenizer.eos]
    assert rows[1].window == tokenizer.encode(" ")
    assert [row.prompt_truncated for row in rows] == [0, 0, 0]


@pytest.mark.parametrize("context", [1, 2, 3])
def test_a_tiny_context_still_writes(
    make_task: Callable[[int], Language], tokenizer: Tokenizer, context: int
) -> None:
    engine = Engine(make_task(context), tokenizer)
    found = engine.generate(["", "abcdef"], SamplingParams(), 20, ignore_eos=True)
    assert [text.tokens for text in found] == [20, 20]


def test_no_tokens_wanted_and_no_prompts_given(random_task: Language, tokenizer: Tokenizer) -> None:
    engine = Engine(random_task, tokenizer)
    assert engine.generate([], GREEDY) == []
    found = engine.generate(["a"], GREEDY, 0)[0]
    assert (found.text, found.tokens, found.finish_reason) == ("", 0, "length")
    assert [step.text for step in engine.stream("a", GREEDY, 0)] == [""]


@pytest.mark.parametrize("value", [-1, 1.5, None, True, "5"])
def test_a_wrong_number_of_tokens_or_seed_is_refused_before_anything_is_written(
    random_task: Language, tokenizer: Tokenizer, value: Any
) -> None:
    engine = Engine(random_task, tokenizer)
    with pytest.raises(SettingError, match="--max-new-tokens"):
        engine.stream("a", GREEDY, value)
    with pytest.raises(SettingError, match="--seed"):
        engine.generate(["a"], GREEDY, 1, seed=value)
    with pytest.raises(InputError, match="prompt"):
        engine.generate([5], GREEDY, 1)  # type: ignore[list-item]
    with pytest.raises(InputError, match="list"):
        engine.generate("a", GREEDY, 1)


def test_weights_that_are_not_numbers_are_refused_in_one_line(
    random_task: Language, tokenizer: Tokenizer
) -> None:
    with torch.no_grad():
        next(random_task.parameters()).fill_(float("nan"))
    with pytest.raises(InputError, match="NaN or infinite"):
        Engine(random_task, tokenizer).generate(["a"], SamplingParams(), 5)
