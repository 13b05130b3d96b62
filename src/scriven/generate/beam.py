"""Beam search: keeps the likeliest few beginnings of a text, instead of the likeliest token alone.

At each step every kept beginning ("beam") is continued with every token, and the best continuations
of all are ranked by their summed log-probability (Sutskever et al. 2014, section 3.2).

- Of the first B in rank, those that end the text become hypotheses; the next B that go on are the
  beams of the next step. Hypotheses take no place away from beams.
- A hypothesis of L tokens, its end included, scores log p / L ** penalty: the simple power that
  transformers uses, not the formula of Wu et al. 2016 (section 7), which is
  log p / ((5 + L) / 6) ** penalty. 0 compares probabilities, 1 means per token.
- The search ends when no beam can beat the requested hypotheses any more. Log p only falls, so
  log p / L ** penalty, with the largest L still possible where the penalty is above 0 and the
  smallest where it is not, bounds what a beam may reach. transformers does so with
  `early_stopping="never"`; its default stops earlier and may miss the best.
- One beam is greedy decoding: the first hypothesis ends the search.

Knows token ids only. Each prompt has its own beams, so its result does not depend on the others in
the batch.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from ..errors import InputError
from .model_runner import ModelRunner


@dataclass(frozen=True)
class BeamSearchParams:
    """What to search for."""

    beams: int  # B, at least 1
    max_new_tokens: int  # most tokens of a hypothesis
    length_penalty: float = 1.0  # above 0 prefers longer texts, below 0 shorter ones
    stop_token_ids: frozenset[int] = frozenset()  # tokens that end a text
    is_stopped: Callable[[list[int]], bool] | None = None
    """Whether some ids end a text for another reason, such as a stop string."""
    num_return: int = 1  # how many hypotheses are requested, at most B

    def score(self, log_prob: float, length: int) -> float:
        """What a hypothesis of `length` tokens is ranked by."""
        return log_prob / math.pow(max(length, 1), self.length_penalty)

    def bound(self, log_prob: float, length: int) -> float:
        """What no text can exceed whose first `length` tokens have this log-probability."""
        return self.score(log_prob, self.max_new_tokens if self.length_penalty > 0 else length + 1)


@dataclass(frozen=True)
class Hypothesis:
    """A text that has ended."""

    ids: list[int]  # its tokens, the one that ended it included
    score: float


@dataclass(frozen=True)
class Beam:
    """The beginning of a text."""

    ids: list[int]
    log_prob: float  # summed over its tokens, in nats


class BeamSearch:
    """The beams of one prompt."""

    def __init__(self, prompt: list[int], params: BeamSearchParams) -> None:
        self.params = params
        self.beams = [Beam([], 0.0)]  # the best first
        self.hypotheses: list[Hypothesis] = []  # the best first, at most as many as there are beams
        self._prompt = prompt
        self._num_evicted = 0

    @property
    def finished(self) -> bool:
        """Whether the requested hypotheses are known."""
        params = self.params
        if not self.beams:
            return True
        if len(self.hypotheses) < params.num_return:
            return False
        first = self.beams[0]
        highest = params.bound(first.log_prob, len(first.ids))
        return params.beams == 1 or self.hypotheses[params.num_return - 1].score >= highest

    def windows(self) -> list[list[int]]:
        """The tokens that the model reads for each beam."""
        return [[*self._prompt, *beam.ids][self._num_evicted :] for beam in self.beams]

    def note_eviction(self, window: list[int]) -> None:
        """Remembers how much of each window a prefill kept; it is the same for all beams."""
        self._num_evicted = len(self._prompt) + len(self.beams[0].ids) - len(window)

    def advance(self, continuations: list[tuple[float, int, int]]) -> list[int]:
        """Adds a token to the beams.

        Args:
            continuations: (log-probability of the token, number of the beam, token) each; any
                number, at least each beam's B best and every end among its better ones.

        Returns:
            For each new beam the number of the beam it continues.
        """
        # 1. rank the continuations of all beams by their summed log-probability
        ranked = sorted(
            (
                (self.beams[beam].log_prob + log_prob, beam, token)
                for log_prob, beam, token in continuations
            ),
            key=lambda each: -each[0],
        )
        beams: list[Beam] = []
        parents: list[int] = []
        for rank, (log_prob, parent, token) in enumerate(ranked):
            if rank >= self.params.beams and len(beams) >= self.params.beams:
                break
            if not log_prob > -math.inf:  # a banned token; or NaN
                continue
            ids = [*self.beams[parent].ids, token]  # beams share prefixes, so lists are copied
            # 2. ends among the first B are hypotheses; the first B others are the next beams
            if self._is_ended(ids):
                if rank < self.params.beams:
                    self.hypotheses.append(Hypothesis(ids, self.params.score(log_prob, len(ids))))
            elif len(beams) < self.params.beams:
                beams.append(Beam(ids, log_prob))
                parents.append(parent)
        # 3. a stable sort: of equal scores the earlier one stays first
        self.hypotheses.sort(key=lambda each: -each.score)
        del self.hypotheses[self.params.beams :]
        self.beams = beams
        return parents

    def _is_ended(self, ids: list[int]) -> bool:
        params = self.params
        if ids[-1] in params.stop_token_ids or len(ids) == params.max_new_tokens:
            return True
        return params.is_stopped is not None and params.is_stopped(ids)


def beam_search(
    runner: ModelRunner, prompts: Sequence[list[int]], params: BeamSearchParams
) -> list[list[Hypothesis]]:
    """The best texts for each prompt.

    Args:
        runner: its cache is replaced.
        prompts: their token ids, at least one each.
        params: what to search for.

    Returns:
        For each prompt its hypotheses, the best first: `params.num_return` of them, or fewer where
        there are no more.

    Raises:
        InputError: the model's weights give NaN or infinite logits.
    """
    if params.max_new_tokens == 0:
        return [[Hypothesis([], 0.0)] for _ in prompts]
    searches = [BeamSearch(prompt, params) for prompt in prompts]
    active, steps = searches, 0
    logits = _prefill(runner, active, params.max_new_tokens, 0)  # (rows, V), a row for each beam
    while active:
        # 1. each beam's best tokens, and as many more as there are tokens that end a text
        log_probs, tokens = _top_tokens(logits, params.beams + len(params.stop_token_ids))
        owners = [search for search in active for _ in search.beams]
        # 2. new beams of each search, and the rows of the cache that they continue
        parents: dict[BeamSearch, list[int]] = {}
        start = 0
        for search in active:
            continuations = [
                (log_prob, beam, token)
                for beam in range(len(search.beams))
                for log_prob, token in zip(
                    log_probs[start + beam], tokens[start + beam], strict=True
                )
            ]
            num_rows = len(search.beams)
            parents[search] = [start + parent for parent in search.advance(continuations)]
            start += num_rows
        steps += 1
        active = [search for search in active if not search.finished]
        if not active:
            break
        # 3. the next logits; a full context is read again without its oldest half
        if not runner.room:
            logits = _prefill(runner, active, params.max_new_tokens - steps, steps)
            continue
        moved = owners != [search for search in active for _ in search.beams]
        runner.reorder([row for each in active for row in parents[each]], sources_change=moved)
        last = [beam.ids[-1] for search in active for beam in search.beams]
        logits = runner.decode(last)
    if not all(search.hypotheses for search in searches):
        raise InputError(
            "the model's weights give NaN or infinite logits: use an earlier checkpoint of the run"
        )
    return [search.hypotheses[: params.num_return] for search in searches]


def _prefill(
    runner: ModelRunner, active: list[BeamSearch], max_new_tokens: int, num_generated: int
) -> Tensor:
    """(rows, V) logits of the token after each beam, read from its beginning."""
    windows = [search.windows() for search in active]
    rows = [window for each in windows for window in each]
    logits = runner.prefill(rows, max_new_tokens, [num_generated] * len(rows))
    for search, own_windows in zip(active, windows, strict=True):
        search.note_eviction(own_windows[0])
    return logits


def _top_tokens(logits: Tensor, count: int) -> tuple[list[list[float]], list[list[int]]]:
    """(rows, count) log-probabilities of the best tokens of each row, and their ids."""
    # log-probabilities of the best tokens alone: (rows, V) in double precision costs too much
    values, ids = logits.topk(min(count, logits.size(-1)), dim=-1)
    log_probs = values.double() - logits.logsumexp(dim=-1, keepdim=True).double()
    return log_probs.tolist(), ids.tolist()
