"""Guessing ahead changes how often the model is asked, and nothing that it writes."""

from collections.abc import Callable

import pytest
import torch

from scriven.generate.draft import LONGEST, Draft
from scriven.generate.engine import Engine
from scriven.generate.reader import Reader
from scriven.generate.row import Row
from scriven.generate.sampling import Sampling
from scriven.tasks.language import Language
from scriven.text.base import Tokenizer

MakeTask = Callable[[int], Language]
Slowly = Callable[..., list[int]]


def test_a_guess_is_what_followed_the_same_tokens_before() -> None:
    draft = Draft([1, 2, 3, 4, 5, 6, 7, 9, 2, 3, 4])
    assert draft.guess(4) == [5, 6, 7, 9]
    assert draft.guess(2) == [5, 6]
    draft.add(8)
    assert draft.guess(4) == [], "3 4 8 never stood before"


def test_a_circle_is_followed_beyond_the_end_of_the_text() -> None:
    assert Draft([7, 1, 2, 3, 1, 2, 3, 1, 2, 3]).guess(4) == [1, 2, 3, 1]


def test_what_fails_is_asked_for_less() -> None:
    draft = Draft([1, 2, 3, 4, 5] * 2)
    for _ in range(5):
        draft.learn(4, 0)
    assert draft.guess(8) == [], "only eight tokens alike would be trusted now"
    for token in [1, 2, 3]:
        draft.add(token)
    assert len(draft.guess(8)) == 2
    for _ in range(5):
        draft.learn(2, 2)
    assert len(draft.guess(20)) == LONGEST


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Tokens of each look ahead from now on."""
    counts: list[int] = []
    look = Reader.look

    def count(reader: Reader, ids: torch.Tensor) -> torch.Tensor:
        counts.append(ids.size(1))
        return look(reader, ids)

    monkeypatch.setattr(Reader, "look", count)
    return counts


PROMPT = "round and round and round and round"


@pytest.mark.parametrize(
    "sampling", [Sampling(temperature=0), Sampling(temperature=0.7), Sampling(top_k=3)]
)
def test_every_token_is_the_one_that_is_written_without_guesses(
    make_task: MakeTask,
    tokenizer: Tokenizer,
    sampling: Sampling,
    written: dict[Row, list[int]],
    reads: list[int],
    write_slowly: Slowly,
) -> None:
    task = make_task(48)
    Engine(task, tokenizer).generate([PROMPT], sampling, 200, seed=5)  # four times the context
    (ids,) = written.values()
    assert ids == write_slowly(task, tokenizer, PROMPT, sampling, 200, 5)
    assert max(reads) > 1, "nothing was guessed"


@pytest.mark.parametrize("taken_back", [True, False], ids=["taken back", "planted bug: kept"])
def test_wrong_guesses_change_nothing_if_they_are_taken_back(
    make_task: MakeTask,
    tokenizer: Tokenizer,
    written: dict[Row, list[int]],
    monkeypatch: pytest.MonkeyPatch,
    write_slowly: Slowly,
    taken_back: bool,
) -> None:
    monkeypatch.setattr(Draft, "guess", lambda draft, most: [1, 2][: max(0, most)])
    if not taken_back:
        monkeypatch.setattr(Reader, "take_back", lambda reader, tokens: None)
    task, greedy = make_task(48), Sampling(temperature=0)
    Engine(task, tokenizer).generate([PROMPT], greedy, 100)
    (ids,) = written.values()
    truth = write_slowly(task, tokenizer, PROMPT, greedy, 100, 0)
    assert (ids == truth) == taken_back
