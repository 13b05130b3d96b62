"""Pre-training of an encoder-decoder on plain text: fill gaps, and go on where the text breaks off.

Half of the rows hide short spans all over a piece of text (Raffel et al. 2020, section 3.1.4), half
hide its tail (the sequential denoiser of Tay et al. 2022, UL2, section 3.1). One sentinel, the
tokenizer's mask, stands for every hidden span, and in the target before what it hid. A row that
hides a tail is what writing and measuring look like.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from ..data.batch import IGNORE_INDEX, Batch
from ..data.collate import Ids, collate_pairs, token_blocks
from ..data.shards import TokenFile
from .base import BaseTask

HIDDEN = 0.15
"""Share of the tokens that random spans hide."""
SPAN = 3
"""Their mean length."""


class Seq2Seq(BaseTask):
    """Hidden spans and hidden tails.

    A tail is at most half a context long, so a source can hold a whole context before it.
    """

    EXTRA_TOKENS = ("mask",)

    @property
    def chunk(self) -> int:
        """The longest tail."""
        return self.backbone.config.context_length // 2

    @property
    def window(self) -> int:
        """The longest head, and the longest tail."""
        return self.backbone.config.context_length - 1 + self.chunk

    @classmethod
    def tokens_per_sample(cls, context: int) -> int:
        """A head and a tail; rows share a token."""
        return context - 2 + context // 2

    @property
    def max_context(self) -> int:
        """A start, the mark, and a tail without its last token."""
        return self.chunk + 1

    def training_batch(self, windows: Tensor, first: int, seed: int) -> Batch:
        """Each window with spans or with its tail hidden."""
        rows = []
        for number, text in enumerate(windows.cpu().numpy()):
            # Philox is a function of its key: any row can be drawn without those before it
            draw = np.random.Generator(np.random.Philox(key=[seed, first + number]))
            rows.append(self._spans(text, draw) if draw.random() < 0.5 else self._tail(text, draw))
        made = collate_pairs(
            [source for source, _ in rows],
            [target for _, target in rows],
            pad=self.special["pad"],
            device=windows.device,
            shape=(self.backbone.config.context_length, self.chunk + 1),
        )
        return replace(
            made,
            text_tokens=len(rows) * self.tokens_per_sample(self.backbone.config.context_length),
        )

    def eval_batches(self, shard: TokenFile, device: torch.device) -> Iterator[Batch]:
        """Tails of half a context, each after as much of the text before it as the source holds.

        Every token counts once and is predicted from what stands before it alone, so this is the
        loss of a language model, comparable with that of a decoder.
        """
        room, mask = self.backbone.config.context_length - 1, [self.special["mask"]]
        before = np.empty(0, dtype=np.int64)
        for targets in token_blocks(shard, self.chunk):
            text = np.concatenate((before, targets.reshape(-1)))
            ends = range(len(before), len(text), targets.shape[1])
            sources = [np.append(text[max(0, end - room) : end], mask) for end in ends]
            tails = [np.concatenate((mask, tail)) for tail in targets]
            batch = collate_pairs(sources, tails, pad=self.special["pad"], device=device)
            batch.targets[:, 0] = IGNORE_INDEX
            yield batch
            before = text[-room:]

    def truncate_prompt(self, prompt: list[int]) -> list[int]:
        """What fits into the source beside the mark: the end of the prompt."""
        return prompt[-(self.backbone.config.context_length - 1) :]

    def build_inputs(self, window: list[int], written: int) -> tuple[list[int] | None, list[int]]:
        """The text as a source, its newest tokens as the tail that the decoder has begun.

        Every half context of new tokens the whole text becomes the source again.
        """
        border = len(window) - written % self.chunk
        room = self.backbone.config.context_length - 1
        source = window[max(0, border - room) : border]
        mask = self.special["mask"]
        return [*source, mask], [self.special["pad"], mask, *window[border:]]

    def _tail(self, text: Ids, draw: np.random.Generator) -> tuple[Ids, Ids]:
        """(head and mark, mark and what follows): a head of any length up to a whole source."""
        place = int(draw.integers(self.backbone.config.context_length))
        mask = [self.special["mask"]]
        tail = text[place : place + self.chunk]
        return np.concatenate((text[:place], mask)), np.concatenate((mask, tail))

    def _spans(self, text: Ids, draw: np.random.Generator) -> tuple[Ids, Ids]:
        """(text with marks for its spans, each mark with what it hid, and the end)."""
        length, hidden, spans = self._share
        gaps = cut(length - hidden + 2, spans + 1, draw)
        gaps[0] -= 1  # a span may begin the piece, and may end it
        gaps[-1] -= 1
        sizes = cut(hidden, spans, draw)
        mask = np.array([self.special["mask"]])
        source, target, place = [], [], 0
        for gap, size in zip(gaps, sizes, strict=False):
            source += [text[place : place + gap], mask]
            target += [mask, text[place + gap : place + gap + size]]
            place += gap + size
        source.append(text[place:length])
        target.append(np.array([self.special["eos"]]))
        return np.concatenate(source), np.concatenate(target)

    @cached_property
    def _share(self) -> tuple[int, int, int]:
        """(length, hidden tokens, spans) of the longest piece whose source fits."""
        fits = (0, 0, 0)
        for length in range(2, self.window + 1):
            hidden = max(1, round(HIDDEN * length))
            spans = max(1, round(hidden / SPAN))
            if length - hidden + spans > self.backbone.config.context_length:
                break
            if hidden + spans + 1 <= self.chunk + 1:
                fits = length, hidden, spans
        return fits


def cut(total: int, parts: int, draw: np.random.Generator) -> list[int]:
    """`total` as a sum of `parts` numbers of at least 1; every such sum is equally likely."""
    places = np.sort(draw.choice(total - 1, parts - 1, replace=False)) + 1
    sums = [0, *places.tolist(), total]
    return [after - before for before, after in pairwise(sums)]


Task = Seq2Seq
