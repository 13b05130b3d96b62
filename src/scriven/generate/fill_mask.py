"""Fills the gaps of a text with a model that reads both sides of them.

Each `<mask>` becomes one token, and what was filled in is read again before the next one is. At
temperature 0 the gap the model is surest of comes first (Ghazvininejad et al. 2019, section 3.2,
one at a time); otherwise they are drawn from left to right. A text longer than the context is read
in windows around its first gap. Knows no stop strings: the length of the text is given.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..tasks.base import BaseTask
from ..tasks.masked import choose_hidden
from ..tokenizers.base import Tokenizer
from ..tokenizers.special_tokens import replace_control_characters
from .sampling import sample
from .sampling_params import LARGEST_SEED, SamplingParams, check_whole

LIKELIEST = SamplingParams(temperature=0)
OTHERS = 5


@dataclass(frozen=True)
class MaskPrediction:
    """What was put into one gap."""

    text: str
    probability: float
    """That the model gave it among all tokens that are text, before temperature and other dials."""
    likeliest: list[tuple[str, float]]
    """The OTHERS best tokens with their probabilities, the best first."""


def fill(
    task: BaseTask,
    tokenizer: Tokenizer,
    text: str,
    sampling: SamplingParams = LIKELIEST,
    seed: int = 0,
) -> tuple[str, list[MaskPrediction]]:
    """The text with a token in place of each `<mask>`, and the guesses in the order of the text.

    Args:
        task: of a model that fills gaps, on any device.
        text: with at least one `<mask>`. Where tokens are words or pieces of them, a space before
            it belongs to it, as they bring their own.
        sampling: the dials; a temperature of 0 always takes the likeliest.
        seed: for drawing.

    Raises:
        InputError: there is no `<mask>` in the text. SettingError: a seed out of its range.
    """
    check_whole("seed", seed, LARGEST_SEED)
    name, mask = tokenizer.mask_token, tokenizer.mask
    assert name is not None and mask is not None, "a tokenizer without a mask fills no gaps"
    if name not in text:
        raise InputError(f'there is no gap to fill: write {name} in the prompt, as "To {name} or"')
    ids = _encode(tokenizer, text)
    gaps = [place for place, id in enumerate(ids) if id == mask]
    generator = torch.Generator().manual_seed(seed)
    guesses: dict[int, MaskPrediction] = {}
    context = task.backbone.config.context_length
    while left := [place for place in gaps if place not in guesses]:
        start = max(0, min(left[0] - context // 2, len(ids) - context))
        left = [place for place in left if place < start + context]
        window = ids[start : start + context]
        scores = _read(task, tokenizer, window, [place - start for place in left])
        row = 0
        if sampling.greedy:
            row = int(scores.log_softmax(-1).amax(-1).argmax())
        seen = torch.zeros_like(scores[:1], dtype=torch.bool)
        seen[0, [id for id in window if id != mask]] = True
        number = float(torch.rand((), generator=generator, dtype=torch.float64))
        id = int(sample(scores[row : row + 1], sampling, [number], seen))
        ids[left[row]] = id
        guesses[left[row]] = _guess(tokenizer, scores[row], id)
    return tokenizer.decode(ids), [guesses[place] for place in gaps]


def show(task: BaseTask, tokenizer: Tokenizer, ids: Sequence[int], seed: int) -> str:
    """A piece of text with 15 % of its tokens hidden, and the model's guesses in [brackets].

    Args:
        ids: at most a context of them; an empty piece stays empty.
        seed: which tokens are hidden.
    """
    if not ids:
        return ""
    assert tokenizer.mask is not None
    generator = np.random.Generator(np.random.Philox(key=[seed % 2**64, 0]))
    hidden = choose_hidden(len(ids), generator).tolist()
    shown = list(ids)
    for place in hidden:
        shown[place] = tokenizer.mask
    best = _read(task, tokenizer, shown, hidden).argmax(-1).tolist()
    guesses = dict(zip(hidden, best, strict=True))
    pieces: list[str] = []
    place = 0
    while place < len(ids):
        end, gap = place, place in guesses
        while end < len(ids) and (end in guesses) == gap:
            end += 1
        text = tokenizer.decode([guesses.get(each, ids[each]) for each in range(place, end)])
        word = text.lstrip(" ") or text
        pieces.append(f"{text[: -len(word)]}[{word}]" if gap and word else text)
        place = end
    return replace_control_characters("".join(pieces))


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


def _read(
    task: BaseTask, tokenizer: Tokenizer, window: Sequence[int], places: Sequence[int]
) -> Tensor:
    """Scores (places, V) in a text of at most a context; -inf for what is no text."""
    device = task.backbone.embed.token.weight.device
    training = task.training
    task.eval()
    try:
        with torch.inference_mode():
            hidden = task.backbone(torch.tensor([list(window)], device=device))
            scores = task.logits(hidden[:, list(places)])[0].cpu()
            scores[:, list(tokenizer.special.values())] = -torch.inf
            scores[:, tokenizer.vocab_size :] = -torch.inf
    finally:
        task.train(training)
    return scores


def _guess(tokenizer: Tokenizer, scores: Tensor, id: int) -> MaskPrediction:
    shares = scores.double().softmax(-1)
    best = shares.topk(min(OTHERS, int(shares.count_nonzero())))
    named = [
        (tokenizer.decode([each]), share)
        for each, share in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]
    return MaskPrediction(tokenizer.decode([id]), float(shares[id]), named)
