"""Denoising pre-training of an encoder-decoder: fill masked spans, and continue a text.

Half of the rows mask short spans all over a piece of text (span corruption: Raffel et al. 2020,
section 3.1.4), half mask its tail (the sequential denoiser of UL2: Tay et al. 2022, section 3.1).
One sentinel, the tokenizer's mask, stands for every masked span, and in the target before what it
masked. A row with a masked tail looks like generation and evaluation.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from ..data.batch import IGNORE_INDEX, Batch, Ids, collate_pairs, token_blocks
from ..data.shards import TokenFile
from .base import BaseTask

MASKED_FRACTION = 0.15  # fraction of the tokens in masked spans
MEAN_SPAN = 3  # mean length of a masked span


class Seq2Seq(BaseTask):
    """Masked spans and masked tails.

    A tail is at most half a context long, so a source can hold a whole context before it.
    """

    EXTRA_TOKENS = ("mask",)

    @property
    def max_tail(self) -> int:
        """The longest tail."""
        return self.backbone.config.context_length // 2

    @classmethod
    def window_length(cls, context: int) -> int:
        """The longest head, and the longest tail."""
        return context - 1 + context // 2

    @classmethod
    def tokens_per_sample(cls, context: int) -> int:
        """A head and a tail; rows share a token."""
        return context - 2 + context // 2

    @property
    def max_context(self) -> int:
        """A start token, the mask, and a tail without its last token."""
        return self.max_tail + 1

    def training_batch(self, windows: Tensor, first: int, seed: int) -> Batch:
        """Each window with masked spans, or with a masked tail."""
        rows = []
        for index, text in enumerate(windows.cpu().numpy()):
            # Philox is a function of its key: any row can be drawn without those before it
            draw = np.random.Generator(np.random.Philox(key=[seed, first + index]))
            is_spans = draw.random() < 0.5
            rows.append(self._mask_spans(text, draw) if is_spans else self._mask_tail(text, draw))
        context, pad = self.backbone.config.context_length, self.special["pad"]
        sources, targets = zip(*rows, strict=True)
        batch = collate_pairs(
            sources, targets, pad=pad, device=windows.device, shape=(context, self.max_tail + 1)
        )
        return replace(batch, text_tokens=len(rows) * self.tokens_per_sample(context))

    def eval_batches(self, shard: TokenFile, device: torch.device) -> Iterator[Batch]:
        """Tails of half a context, each after as much of the text before it as the source holds.

        Every token counts once and is predicted from what stands before it alone, so this is the
        loss of a language model, comparable with that of a decoder.
        """
        room, mask = self.backbone.config.context_length - 1, [self.special["mask"]]
        before = np.empty(0, dtype=np.int64)
        for targets in token_blocks(shard, self.max_tail):
            text = np.concatenate((before, targets.reshape(-1)))
            ends = range(len(before), len(text), targets.shape[1])
            sources = [np.append(text[max(0, end - room) : end], mask) for end in ends]
            tails = [np.concatenate((mask, tail)) for tail in targets]
            batch = collate_pairs(sources, tails, pad=self.special["pad"], device=device)
            batch.targets[:, 0] = IGNORE_INDEX  # the mask is no token of the text
            yield batch
            before = text[-room:]

    def truncate_prompt(self, prompt: list[int]) -> list[int]:
        """What fits into the source beside the mask: the end of the prompt."""
        return prompt[-(self.backbone.config.context_length - 1) :]

    def build_inputs(
        self, window: list[int], num_generated: int
    ) -> tuple[list[int] | None, list[int]]:
        """The text as a source, its newest tokens as the tail that the decoder has begun.

        Every half context of new tokens the whole text becomes the source again.
        """
        source_end = len(window) - num_generated % self.max_tail
        room = self.backbone.config.context_length - 1
        source = window[max(0, source_end - room) : source_end]
        mask = self.special["mask"]
        return [*source, mask], [self.special["pad"], mask, *window[source_end:]]

    def _mask_tail(self, text: Ids, draw: np.random.Generator) -> tuple[Ids, Ids]:
        """(head and mask, mask and tail): a head of any length up to a whole source."""
        place = int(draw.integers(self.backbone.config.context_length))
        mask = [self.special["mask"]]
        tail = text[place : place + self.max_tail]
        return np.concatenate((text[:place], mask)), np.concatenate((mask, tail))

    def _mask_spans(self, text: Ids, draw: np.random.Generator) -> tuple[Ids, Ids]:
        """(text with a mask for each span, each mask with what it masked, and the end)."""
        length, num_masked, num_spans = self._span_sizes
        # 1. lengths of the text between the spans, and of the spans
        gaps = random_composition(length - num_masked + 2, num_spans + 1, draw)
        gaps[0] -= 1  # a span may begin the piece, and may end it
        gaps[-1] -= 1
        sizes = random_composition(num_masked, num_spans, draw)
        # 2. one sentinel for every span in the source, and before its tokens in the target
        mask = np.array([self.special["mask"]])
        source, target, place = [], [], 0
        for gap, size in zip(gaps, sizes, strict=False):
            source += [text[place : place + gap], mask]
            target += [mask, text[place + gap : place + gap + size]]
            place += gap + size
        # 3. the text after the last span; the target ends with EOS
        source.append(text[place:length])
        target.append(np.array([self.special["eos"]]))
        return np.concatenate(source), np.concatenate(target)

    @cached_property
    def _span_sizes(self) -> tuple[int, int, int]:
        """(length, masked tokens, spans) of the longest piece whose source and target fit."""
        fitting = (0, 0, 0)
        for length in range(2, self.window + 1):
            num_masked = max(1, round(MASKED_FRACTION * length))
            num_spans = max(1, round(num_masked / MEAN_SPAN))
            if length - num_masked + num_spans > self.backbone.config.context_length:
                break
            if num_masked + num_spans + 1 <= self.max_tail + 1:
                fitting = length, num_masked, num_spans
        return fitting


def random_composition(total: int, parts: int, draw: np.random.Generator) -> list[int]:
    """`total` as a sum of `parts` numbers of at least 1; every such sum is equally likely."""
    places = np.sort(draw.choice(total - 1, parts - 1, replace=False)) + 1
    sums = [0, *places.tolist(), total]
    return [after - before for before, after in pairwise(sums)]


Task = Seq2Seq
