"""Writes rows together: reads, chooses, and keeps what was guessed right.

Each token is chosen as if it had been alone, with the random number that is its own. Knows token
ids only.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from .model_runner import ModelRunner
from .prompt_lookup import PromptLookup, agree
from .row import Row
from .sampling import sample
from .sampling_params import SamplingParams


def write(reader: ModelRunner, rows: Sequence[Row], sampling: SamplingParams) -> Iterator[None]:
    """Adds tokens to each row until all are finished; comes back after each turn.

    Raises:
        InputError: the model's weights give numbers that are not finite.
    """
    lines = [_Line(row) for row in rows]
    penalised = sampling.repetition_penalty != 1
    logits = _read(reader, lines)
    seen = _seen(lines, logits) if penalised else None
    while True:
        ids = _choose(logits, sampling, lines, seen)
        if seen is not None:
            seen.scatter_(1, ids, True)
        read = ids.size(1)
        wrong = [read - line.take(chosen) for line, chosen in zip(lines, ids.tolist(), strict=True)]
        yield
        order = _closed_up([line.row.finish_reason is None for line in lines])
        if not order:
            return
        if len(order) < len(lines):
            lines, wrong = [lines[i] for i in order], [wrong[i] for i in order]
            seen = None if seen is None else seen[order]
            reader.select(order, sources=True)
        reader.take_back(wrong)
        if reader.full and not reader.make_room(*_texts(lines)):
            logits = _read(reader, lines)
            continue
        left = max(line.row.left for line in lines)
        # a penalty would change with each guess
        most = 0 if penalised else min(reader.room, left) - 1
        guesses = agree([line.draft for line in lines], most)
        for line, guess in zip(lines, guesses, strict=True):
            line.guess = guess
        logits = reader.look(_filled(lines))


class _Line:
    """A row, and what is guessed of it."""

    def __init__(self, row: Row) -> None:
        self.row = row
        self.draft = PromptLookup(row.window)
        self.guess: list[int] = []

    def take(self, chosen: list[int]) -> int:
        """Adds what was chosen after its last token and after each guess; how many of them.

        A choice holds where all guesses before it were right.
        """
        guess, self.guess = self.guess, []
        taken = 0
        for token, guessed in zip(chosen, [*guess, None], strict=False):
            self.row.take(token)
            self.draft.add(token)
            taken += 1
            if token != guessed or self.row.finish_reason is not None:
                break
        return taken


def _closed_up(going: list[bool]) -> list[int]:
    """The numbers of the rows that go on: the last ones take the places of those that do not."""
    left = [number for number, goes in enumerate(going) if goes]
    order = list(range(len(left)))
    for place in order:
        if not going[place]:
            order[place] = left.pop()
    return order


def _read(reader: ModelRunner, lines: list[_Line]) -> Tensor:
    """(rows, 1, vocabulary) logits of the token after each row, read from its beginning."""
    windows, written = _texts(lines)
    return reader.read(windows, max(line.row.left for line in lines), written).unsqueeze(1)


def _texts(lines: list[_Line]) -> tuple[list[list[int]], list[int]]:
    """The tokens of each row, and how many of them the model wrote."""
    return [line.row.window for line in lines], [line.row.tokens for line in lines]


def _choose(
    logits: Tensor, sampling: SamplingParams, lines: list[_Line], seen: Tensor | None
) -> Tensor:
    """(rows, T, vocabulary) -> (rows, T) tokens."""
    count = logits.size(1)
    numbers = [] if sampling.greedy else [n for line in lines for n in line.row.numbers(count)]
    return sample(logits.flatten(0, 1), sampling, numbers, seen).view(-1, count)


def _filled(lines: list[_Line]) -> Tensor:
    """(rows, T): the last token of each and its guess; anything where nothing is guessed."""
    longest = max(len(line.guess) for line in lines)
    return torch.tensor(
        [[line.row.window[-1], *line.guess, *[0] * (longest - len(line.guess))] for line in lines]
    )


def _seen(lines: list[_Line], logits: Tensor) -> Tensor:
    """(rows, vocabulary) bool: the tokens of each prompt, as far as it was read."""
    seen = torch.zeros(len(lines), logits.size(-1), dtype=torch.bool, device=logits.device)
    for number, line in enumerate(lines):
        seen[number, line.row.window] = True
    return seen
