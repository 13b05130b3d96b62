"""From logits to the next token: pure functions, each row on its own.

The order is that of transformers' processors: penalty, temperature, top-k, top-p, min-p.
Knows no model, no tokenizer and no text.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .sampling_params import SamplingParams

SHORT = 512
"""Best tokens that are sorted first for top-p; all are, where these have too little probability."""


def sample(
    logits: Tensor,
    sampling: SamplingParams,
    numbers: Sequence[float],
    seen: Tensor | None = None,
) -> Tensor:
    """The next token of each row.

    A row's choice depends on its own logits and its own random number alone, so a text does not
    depend on which others are written beside it.

    Args:
        logits: (rows, vocabulary); -inf for what must never be chosen.
        sampling: the dials.
        numbers: for each row one drawn evenly from [0, 1), in double precision; not needed when
            greedy.
        seen: (rows, vocabulary) bool, the tokens already in the text; for the penalty only.

    Returns:
        (rows,) int64 ids.
    """
    if seen is not None and sampling.repetition_penalty != 1:
        logits = penalise_repetition(logits, seen, sampling.repetition_penalty)
    if sampling.greedy:
        return logits.argmax(dim=-1)
    scores, ids = filter_logits(logits, sampling)
    cumulative = scores.softmax(dim=-1).cumsum(dim=-1)
    # One uniform number against the cumulative probabilities: the first entry above it.
    uniform = torch.tensor(numbers, dtype=torch.float64, device=logits.device)
    threshold = uniform[:, None] * cumulative[:, -1:]
    at = torch.searchsorted(cumulative, threshold, right=True)
    at = at.clamp_(max=scores.shape[-1] - 1)
    return (at if ids is None else ids.gather(-1, at))[:, 0]


def penalise_repetition(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Makes tokens already there less likely: logits above 0 divided, below 0 multiplied.

    Source: CTRL (Keskar et al. 2019), section 4.1, in the form all libraries use.

    Args:
        logits: (rows, vocabulary).
        seen: (rows, vocabulary) bool.
        penalty: above 0; 1 changes nothing.

    Returns:
        (rows, vocabulary) float64.
    """
    logits = logits.double()
    changed = torch.where(logits < 0, logits * penalty, logits / penalty)
    # A tiny penalty may overflow; what must never be chosen stays at -inf.
    return torch.where(seen, changed, logits).clamp(max=1e300)


def filter_logits(logits: Tensor, sampling: SamplingParams) -> tuple[Tensor, Tensor | None]:
    """The tokens that may be drawn, with their scores after the temperature.

    Args:
        logits: (rows, vocabulary), after the penalty.
        sampling: the dials, not greedy.

    Returns:
        (rows, n) float64 scores, -inf for tokens left out, and the (rows, n) int64 ids they
        belong to; None where score i belongs to token i.
    """
    vocab_size = logits.shape[-1]
    logits = logits.double()
    best = logits.amax(dim=-1, keepdim=True)
    scores = (logits - best) / sampling.temperature
    ids: Tensor | None = None
    if 0 < sampling.top_k < vocab_size:
        scores, ids = scores.topk(sampling.top_k, dim=-1)
    if sampling.top_p < 1:
        scores, order = _nucleus(scores, sampling.top_p)
        ids = order if ids is None else ids.gather(-1, order)
    if sampling.min_p > 0:  # the best score is 0, so scores are logarithms of the ratio to it
        scores = scores.masked_fill(scores < math.log(sampling.min_p), -math.inf)
    return scores, ids


def _nucleus(scores: Tensor, mass: float) -> tuple[Tensor, Tensor]:
    """Keeps a token where those before it have less than `mass` together; so always the first.

    Source: Holtzman et al. 2020, section 3.1. The best few are sorted first, and all of them only
    when a row needs more: sorting 50,000 tokens costs more than a small model's step.

    Returns:
        Scores in falling order, -inf for those left out, and where they stood before.
    """
    total = scores.logsumexp(dim=-1, keepdim=True)
    size = min(SHORT, scores.shape[-1])
    while True:
        values, order = scores.topk(size, dim=-1)
        probabilities = (values - total).exp()
        before = probabilities.cumsum(dim=-1) - probabilities
        if size == scores.shape[-1] or bool((before[:, -1] >= mass).all()):
            return values.masked_fill(before >= mass, -math.inf), order
        size = scores.shape[-1]
