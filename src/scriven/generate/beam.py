"""Beam search: keeps the likeliest few beginnings of a text, instead of the likeliest token alone.

Each turn, every kept beginning ("beam") is continued with every token, and the best continuations
of all are ranked by their summed log-probability (Sutskever et al. 2014, section 3.2).

- Of the first B in rank, those that end the text become hypotheses; the next B that go on are the
  beams of the next turn. Hypotheses take no place away from beams.
- A hypothesis of L tokens, its end included, scores log p / L ** penalty: the simple power that
  transformers uses, not the formula of Wu et al. 2016 (section 7), which is
  log p / ((5 + L) / 6) ** penalty. 0 compares probabilities, 1 means per token.
- The search ends when no beam can beat the hypotheses that are asked for any more. Log p only
  falls, so log p / L ** penalty, with the largest L still possible where the penalty is above 0
  and the smallest where it is not, bounds what a beam may reach. transformers does so with
  `early_stopping="never"`; its default stops earlier and may miss the best.
- One beam is greedy writing: the first hypothesis ends the search.

Knows token ids only. Each prompt has its own beams, so what it gives does not depend on the others
that are searched beside it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError
from .model_runner import ModelRunner


@dataclass(frozen=True)
class Plan:
    """What is searched for."""

    beams: int
    """B, at least 1."""
    limit: int
    """Most tokens of a hypothesis."""
    length_penalty: float = 1.0
    """Above 0 prefers longer texts, below 0 shorter ones."""
    ends: frozenset[int] = frozenset()
    """Tokens that end a text."""
    over: Callable[[list[int]], bool] | None = None
    """Whether some ids end a text for another reason, such as a stop string."""
    best: int = 1
    """How many hypotheses are asked for, at most B."""

    def score(self, total: float, length: int) -> float:
        """What a hypothesis of `length` tokens is ranked by."""
        return total / math.pow(max(length, 1), self.length_penalty)

    def bound(self, total: float, length: int) -> float:
        """What no text can exceed whose first `length` tokens have this log-probability."""
        return self.score(total, self.limit if self.length_penalty > 0 else length + 1)


@dataclass(frozen=True)
class Hypothesis:
    """A text that has ended."""

    ids: list[int]
    """Its tokens, the one that ended it included."""
    score: float


@dataclass(frozen=True)
class Beam:
    """The beginning of a text."""

    ids: list[int]
    total: float
    """Its log-probability in nats."""


class Search:
    """The beams of one prompt."""

    def __init__(self, prompt: list[int], plan: Plan) -> None:
        self.plan = plan
        self.beams = [Beam([], 0.0)]
        """The best first."""
        self.done: list[Hypothesis] = []
        """The best first, at most as many as there are beams."""
        self._prompt = prompt
        self._forgotten = 0

    @property
    def finished(self) -> bool:
        """Whether the hypotheses asked for are known."""
        plan = self.plan
        if not self.beams:
            return True
        if len(self.done) < plan.best:
            return False
        first = self.beams[0]
        highest = plan.bound(first.total, len(first.ids))
        return plan.beams == 1 or self.done[plan.best - 1].score >= highest

    def windows(self) -> list[list[int]]:
        """What the model reads for each beam."""
        return [[*self._prompt, *beam.ids][self._forgotten :] for beam in self.beams]

    def shortened(self, window: list[int]) -> None:
        """Takes note of how much of each window the reader kept; it is as much of all."""
        self._forgotten = len(self._prompt) + len(self.beams[0].ids) - len(window)

    def advance(self, continuations: list[tuple[float, int, int]]) -> list[int]:
        """One more token.

        Args:
            continuations: (log-probability of the token, number of the beam, token) each; any
                number, at least each beam's B best and every end among its better ones.

        Returns:
            For each new beam the number of the one it goes on from.
        """
        ranked = sorted(
            ((self.beams[beam].total + score, beam, token) for score, beam, token in continuations),
            key=lambda each: -each[0],
        )
        beams: list[Beam] = []
        parents: list[int] = []
        for rank, (total, parent, token) in enumerate(ranked):
            if rank >= self.plan.beams and len(beams) >= self.plan.beams:
                break
            if not total > -math.inf:  # a token that is never written; or not a number
                continue
            ids = [*self.beams[parent].ids, token]
            if self._ended(ids):
                if rank < self.plan.beams:
                    self.done.append(Hypothesis(ids, self.plan.score(total, len(ids))))
            elif len(beams) < self.plan.beams:
                beams.append(Beam(ids, total))
                parents.append(parent)
        self.done = sorted(self.done, key=lambda each: -each.score)[: self.plan.beams]
        self.beams = beams
        return parents

    def _ended(self, ids: list[int]) -> bool:
        plan = self.plan
        if ids[-1] in plan.ends or len(ids) == plan.limit:
            return True
        return plan.over is not None and plan.over(ids)


def search(reader: ModelRunner, prompts: Sequence[list[int]], plan: Plan) -> list[list[Hypothesis]]:
    """The best texts for each prompt.

    Args:
        reader: with the model; what it has read before is forgotten.
        prompts: their token ids, at least one each.
        plan: what to search for.

    Returns:
        For each prompt its hypotheses, the best first: `plan.best` of them, or fewer where there
        are no more.

    Raises:
        InputError: the model's weights give numbers that are not finite.
    """
    if plan.limit == 0:
        return [[Hypothesis([], 0.0)] for _ in prompts]
    searches = [Search(prompt, plan) for prompt in prompts]
    live, steps = searches, 0
    logits = _read(reader, live, plan.limit, 0)
    while live:
        scores, tokens = _likeliest(logits, plan.beams + len(plan.ends))
        owners = [each for each in live for _ in each.beams]
        chosen: dict[Search, list[int]] = {}
        start = 0
        for each in live:
            rows = range(start, start + len(each.beams))
            offered = [
                (score, row - start, token)
                for row in rows
                for score, token in zip(scores[row], tokens[row], strict=True)
            ]
            chosen[each] = [start + parent for parent in each.advance(offered)]
            start = rows.stop
        steps += 1
        live = [each for each in live if not each.finished]
        if not live:
            break
        if reader.full:
            logits = _read(reader, live, plan.limit - steps, steps)
            continue
        moved = owners != [each for each in live for _ in each.beams]
        reader.select([row for each in live for row in chosen[each]], sources=moved)
        logits = reader.step(torch.tensor([beam.ids[-1] for each in live for beam in each.beams]))
    if not all(each.done for each in searches):
        raise InputError(
            "the model's weights give numbers that are not finite: "
            "use an earlier checkpoint of the run"
        )
    return [each.done[: plan.best] for each in searches]


def _read(reader: ModelRunner, live: list[Search], more: int, written: int) -> Tensor:
    """Logits of the token after each beam, read from its beginning."""
    windows = [each.windows() for each in live]
    flat = [window for each in windows for window in each]
    logits = reader.read(flat, more, [written] * len(flat))
    for each, kept in zip(live, windows, strict=True):
        each.shortened(kept[0])
    return logits


def _likeliest(logits: Tensor, count: int) -> tuple[list[list[float]], list[list[int]]]:
    """The best tokens of each row: (rows, count) log-probabilities, and their ids."""
    values, ids = logits.topk(min(count, logits.size(-1)), dim=-1)
    scores = values.double() - logits.logsumexp(dim=-1, keepdim=True).double()
    return scores.tolist(), ids.tolist()
