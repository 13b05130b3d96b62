"""Fills the gaps of a text with a masked language model.

Each `<mask>` becomes one token, and the model reads what was filled in before it fills the next. At
temperature 0 the gap that the model is surest of comes first (Ghazvininejad et al. 2019, section
3.2, one at a time); otherwise gaps are sampled from left to right. A text longer than the context
is read in windows around its first gap. There are no stop strings: the length of the text is given.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from ..config import MAX_SEED, check_int
from ..errors import InputError
from ..format import escape_control_characters
from ..tasks.base import BaseTask
from ..tasks.masked import choose_masked
from ..tokenizers.base import Tokenizer
from .sampling import SamplingParams, sample

NUM_ALTERNATIVES = 5


@dataclass(frozen=True)
class MaskPrediction:
    """The token that filled one gap."""

    text: str
    probability: float
    """Its probability among all tokens that are text, before temperature and other processors."""
    likeliest: list[tuple[str, float]]
    """The NUM_ALTERNATIVES best tokens with their probabilities, the best first."""


def fill_mask(
    task: BaseTask,
    tokenizer: Tokenizer,
    text: str,
    sampling: SamplingParams | None = None,
    seed: int = 0,
) -> tuple[str, list[MaskPrediction]]:
    """The text with a token in place of each `<mask>`, and the predictions in the text's order.

    Args:
        task: a masked language model, on any device.
        text: with at least one `<mask>`. Where tokens are words or pieces of them, a space before
            it belongs to it, as they bring their own.
        sampling: None always takes the likeliest token, as a temperature of 0 does.
        seed: of the random numbers.

    Raises:
        InputError: there is no `<mask>` in the text. SettingError: a seed out of its range.
    """
    check_int("seed", seed, MAX_SEED)
    sampling = sampling or SamplingParams(temperature=0)
    name, mask = tokenizer.mask_token, tokenizer.mask
    assert name is not None and mask is not None, "a tokenizer without a mask fills no gaps"
    if name not in text:
        raise InputError(f'there is no gap to fill: write {name} in the prompt, as "To {name} or"')
    ids = _encode(tokenizer, text)
    gaps = [place for place, token in enumerate(ids) if token == mask]
    generator = torch.Generator().manual_seed(seed)
    predictions: dict[int, MaskPrediction] = {}
    context = task.backbone.config.context_length
    while open_gaps := [place for place in gaps if place not in predictions]:
        # 1. logits of all gaps in a window around the first one
        start = max(0, min(open_gaps[0] - context // 2, len(ids) - context))
        open_gaps = [place for place in open_gaps if place < start + context]
        window = ids[start : start + context]
        logits = _mask_logits(task, tokenizer, window, [place - start for place in open_gaps])
        # 2. the gap to fill: the surest one, or the first
        row = int(logits.log_softmax(-1).amax(-1).argmax()) if sampling.greedy else 0
        # 3. sample its token
        seen = torch.zeros_like(logits[:1], dtype=torch.bool)  # (1, V)
        seen[0, [token for token in window if token != mask]] = True
        uniform = float(torch.rand((), generator=generator, dtype=torch.float64))
        token = int(sample(logits[row : row + 1], sampling, [uniform], seen))
        ids[open_gaps[row]] = token
        predictions[open_gaps[row]] = _prediction(tokenizer, logits[row], token)
    return tokenizer.decode(ids), [predictions[place] for place in gaps]


def show_predictions(task: BaseTask, tokenizer: Tokenizer, ids: Sequence[int], seed: int) -> str:
    """A text of at most a context with 15 % of its tokens masked, and predictions in [brackets]."""
    if not ids:
        return ""
    assert tokenizer.mask is not None
    generator = np.random.Generator(np.random.Philox(key=[seed % 2**64, 0]))
    places = choose_masked(len(ids), generator).tolist()
    masked = list(ids)
    for place in places:
        masked[place] = tokenizer.mask
    best = _mask_logits(task, tokenizer, masked, places).argmax(-1).tolist()
    predicted = dict(zip(places, best, strict=True))
    pieces: list[str] = []
    # neighbours are decoded together: a character may span several tokens
    for is_gap, group in groupby(range(len(ids)), key=lambda place: place in predicted):
        text = tokenizer.decode([predicted.get(place, ids[place]) for place in group])
        word = text.lstrip(" ") or text
        pieces.append(f"{text[: -len(word)]}[{word}]" if is_gap and word else text)
    return escape_control_characters("".join(pieces))


def _encode(tokenizer: Tokenizer, text: str) -> list[int]:
    """Ids with a mask for each `<mask>`; one space before it goes where tokens bring their own."""
    assert tokenizer.mask_token is not None and tokenizer.mask is not None
    *before, last = text.split(tokenizer.mask_token)
    ids: list[int] = []
    for piece in before:
        if tokenizer.kind in ("bpe", "word"):
            piece = piece.removesuffix(" ")
        ids += [*tokenizer.encode(piece), tokenizer.mask]
    return ids + tokenizer.encode(last)


def _mask_logits(
    task: BaseTask, tokenizer: Tokenizer, window: Sequence[int], places: Sequence[int]
) -> Tensor:
    """(places, V) logits in a text of at most a context; -inf for tokens that are no text."""
    device = task.backbone.embed.token.weight.device
    training = task.training
    task.eval()
    try:
        with torch.inference_mode():
            hidden = task.backbone(torch.tensor([list(window)], device=device))  # (1, T, C)
            logits = task.logits(hidden[:, list(places)])[0].cpu()
            logits[:, list(tokenizer.special.values())] = -torch.inf
            logits[:, tokenizer.vocab_size :] = -torch.inf
    finally:
        task.train(training)
    return logits


def _prediction(tokenizer: Tokenizer, logits: Tensor, token: int) -> MaskPrediction:
    probabilities = logits.double().softmax(-1)  # (V,)
    # tokens that are no text have a probability of 0 and are no alternatives
    best = probabilities.topk(min(NUM_ALTERNATIVES, int(probabilities.count_nonzero())))
    likeliest = [
        (tokenizer.decode([each]), probability)
        for each, probability in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]
    return MaskPrediction(tokenizer.decode([token]), float(probabilities[token]), likeliest)
