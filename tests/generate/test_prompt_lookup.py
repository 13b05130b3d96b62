"""Guessing ahead changes how often the model is asked, and nothing that it writes."""

import random
from collections.abc import Callable

import pytest
import torch

from scriven.generate.engine import Engine
from scriven.generate.model_runner import ModelRunner
from scriven.generate.prompt_lookup import (
    COMPILED_COSTS,
    PYTORCH_COSTS,
    PassCosts,
    PromptLookup,
    plan_draft_lengths,
)
from scriven.generate.sampling import SamplingParams
from scriven.generate.sequence import Sequence
from scriven.tasks.language import Language
from scriven.tokenizers.base import Tokenizer

MakeTask = Callable[[int], Language]
Slowly = Callable[..., list[int]]


def test_a_guess_is_what_followed_the_same_tokens_before() -> None:
    draft = PromptLookup([1, 2, 3, 4, 5, 6, 7, 9, 2, 3, 4])
    assert draft.propose(4) == [5, 6, 7, 9]
    assert draft.propose(2) == [5, 6]
    draft.append(8)
    assert draft.propose(4) == [], "3 4 8 never stood before"


def test_a_circle_is_followed_beyond_the_end_of_the_text() -> None:
    assert PromptLookup([7, 1, 2, 3, 1, 2, 3, 1, 2, 3]).propose(4) == [1, 2, 3, 1]


def test_what_was_guessed_wrong_has_less_of_a_chance_also_if_nobody_asked() -> None:
    right, wrong = PromptLookup([1, 2, 3, 4, 5] * 3), PromptLookup([1, 2, 3, 4, 5] * 3)
    rates = []
    for turn in range(6):
        for draft in (right, wrong):
            assert draft.propose(0) == []
        rates.append((right.acceptance, wrong.acceptance))
        right.append(1 + turn % 5)
        for token in (10 + turn, 1, 2, 3, 4, 5):  # never what came last time
            wrong.append(token)
    assert rates[0] == (0.5, 0.5)
    assert rates[-1][0] > 0.8
    assert rates[-1][1] < 0.5


def sure(times: int) -> PromptLookup:
    """Of a text that goes in circles and was always guessed right, so many times."""
    draft = PromptLookup([1, 2, 3, 4, 5] * 3)
    for turn in range(times):
        draft.propose(0)
        draft.append(1 + turn % 5)
    return draft


def test_texts_that_are_read_together_agree_on_a_length() -> None:
    new = [PromptLookup([number, number + 1]) for number in range(31)]
    assert plan_draft_lengths(new, 8) == [[]] * 31, "nothing is known"
    assert plan_draft_lengths([sure(20)], 8) == [[1, 2, 3, 4, 5, 1, 2, 3]]
    assert plan_draft_lengths([sure(20)], 2) == [[1, 2]]
    assert plan_draft_lengths([sure(20)], 2, COMPILED_COSTS) == [[1, 2]]
    half_sure = PromptLookup([1, 2, 3, 4, 5] * 3)
    assert plan_draft_lengths([half_sure], 8) == [[1, 2, 3, 4]]
    assert plan_draft_lengths([half_sure], 8, COMPILED_COSTS) == [[1, 2, 3]], "a token costs more"
    assert plan_draft_lengths([sure(20)], 2, PYTORCH_COSTS._replace(undrafted_gain=3.0)) == [[]], (
        "cheaper without"
    )
    assert plan_draft_lengths([sure(20), *new], 8) == [[]] * 32, "31 would pay for one"
    most = plan_draft_lengths([*(sure(20) for _ in range(31)), new[0]], 8)
    assert most[-1] == []
    assert len(most[0]) > 2


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Tokens of each look ahead from now on."""
    counts: list[int] = []
    decode_many = ModelRunner.decode_many

    def count(runner: ModelRunner, rows: list[list[int]]) -> torch.Tensor:
        counts.append(len(rows[0]))
        return decode_many(runner, rows)

    monkeypatch.setattr(ModelRunner, "decode_many", count)
    return counts


PROMPT = "round and round and round and round"


@pytest.mark.parametrize(
    "sampling",
    [SamplingParams(temperature=0), SamplingParams(temperature=0.7), SamplingParams(top_k=3)],
)
def test_every_token_is_the_one_that_is_written_without_guesses(
    make_task: MakeTask,
    tokenizer: Tokenizer,
    sampling: SamplingParams,
    written: dict[Sequence, list[int]],
    reads: list[int],
    write_slowly: Slowly,
) -> None:
    task = make_task(48)
    Engine(task, tokenizer).generate([PROMPT], sampling, 200, seed=5)  # four times the context
    (ids,) = written.values()
    assert ids == write_slowly(task, tokenizer, PROMPT, sampling, 200, 5)
    assert max(reads) > 1, "nothing was guessed"


def guess_one_and_two(drafts: list[PromptLookup], most: int, costs: PassCosts) -> list[list[int]]:
    """Wrong more often than not."""
    return [[1, 2][: max(0, most)] for _ in drafts]


@pytest.mark.parametrize("taken_back", [True, False], ids=["taken back", "planted bug: kept"])
def test_wrong_guesses_change_nothing_if_they_are_taken_back(
    make_task: MakeTask,
    tokenizer: Tokenizer,
    written: dict[Sequence, list[int]],
    monkeypatch: pytest.MonkeyPatch,
    write_slowly: Slowly,
    taken_back: bool,
) -> None:
    monkeypatch.setattr("scriven.generate.engine.plan_draft_lengths", guess_one_and_two)
    if not taken_back:
        monkeypatch.setattr(ModelRunner, "rollback", lambda runner, tokens: None)
    task, greedy = make_task(48), SamplingParams(temperature=0)
    Engine(task, tokenizer).generate([PROMPT], greedy, 100)
    (ids,) = written.values()
    truth = write_slowly(task, tokenizer, PROMPT, greedy, 100, 0)
    assert (ids == truth) == taken_back


def test_rows_that_guess_together_write_what_each_writes_alone(
    make_task: MakeTask,
    tokenizer: Tokenizer,
    written: dict[Sequence, list[int]],
    monkeypatch: pytest.MonkeyPatch,
    write_slowly: Slowly,
) -> None:
    """At a pace of their own, through several contexts, however the guesses are."""
    draw = random.Random(1)

    def anything(drafts: list[PromptLookup], most: int, costs: PassCosts) -> list[list[int]]:
        return [
            draft.propose(min(draw.randrange(5), max(0, most)))
            or [7] * min(draw.randrange(3), most)
            for draft in drafts
        ]

    monkeypatch.setattr("scriven.generate.engine.plan_draft_lengths", anything)
    task, prompts = make_task(32), [PROMPT, "a", "", "a longer one than", "round"]
    Engine(task, tokenizer).generate(prompts, SamplingParams(temperature=0.5), 120, seed=4)
    for row, ids in enumerate(written.values()):
        assert ids == write_slowly(
            task, tokenizer, prompts[row], SamplingParams(temperature=0.5), 120, 4 + row
        )
