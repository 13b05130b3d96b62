"""Where training rows and validation batches come from: one object for each way to read a text."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch

from ..data.batch import Batch
from ..data.pairs import PairDataset
from ..data.sampler import SequentialSampler, ShuffledSampler, length_bucketed_rows
from ..data.shards import TokenDataset
from ..distributed import BatchShard
from ..tasks.base import BaseTask
from ..tasks.pairs import Pairs
from ..tasks.shared.supervised import Example, SupervisedTask, length_bucketed_batches


class Feed(Protocol):
    """What a run reads."""

    def batch(self, sample: int) -> Batch:
        """This process's rows of the training batch whose first row has this number."""
        ...

    def eval_batches(self) -> Iterator[Batch]:
        """The whole validation part."""
        ...


class Windows:
    """Pieces of the text in random order, every one once per pass."""

    def __init__(
        self,
        corpus: TokenDataset,
        task: BaseTask,
        seed: int,
        share: BatchShard,
        device: torch.device,
    ) -> None:
        self.corpus, self.task, self.seed, self.share = corpus, task, seed, share
        self.device = device
        self.order = ShuffledSampler(len(corpus.train), task.window, seed)

    def batch(self, sample: int) -> Batch:
        first = sample + self.share.start
        starts = self.order.starts(first, self.share.rows)
        pieces = torch.from_numpy(self.corpus.train.read_windows(starts, self.order.length))
        return self.task.training_batch(pieces.to(self.device), first, self.seed)

    def eval_batches(self) -> Iterator[Batch]:
        return self.task.eval_batches(self.corpus.validation, self.device)


class Streams(Windows):
    """The text in its own order, for a model that remembers."""

    def __init__(
        self,
        corpus: TokenDataset,
        task: BaseTask,
        seed: int,
        share: BatchShard,
        device: torch.device,
    ) -> None:
        super().__init__(corpus, task, seed, share, device)
        self.stream = SequentialSampler(len(corpus.train), task.window, share.batch_size, seed)

    def batch(self, sample: int) -> Batch:
        starts, fresh = self.stream.starts(sample)
        mine = starts[self.share.slice]
        pieces = torch.from_numpy(self.corpus.train.read_windows(mine, self.stream.length))
        made = self.task.training_batch(
            pieces.to(self.device), sample + self.share.start, self.seed
        )
        return replace(made, reset_state=fresh)


class Paired:
    """Pairs in random order, every one once per pass, about as long as each other."""

    def __init__(
        self, corpus: TokenDataset, task: Pairs, seed: int, share: BatchShard, device: torch.device
    ) -> None:
        self.corpus, self.task, self.seed, self.share = corpus, task, seed, share
        self.device = device
        self.pairs = PairDataset(corpus.train, corpus.tokenizer.eos)
        self.lengths = self.pairs.lengths.max(1)  # the longer side leaves the least padding on both

    def batch(self, sample: int) -> Batch:
        numbers = length_bucketed_rows(sample, self.share.batch_size, self.lengths, self.seed)
        return self.task.batch(*self.pairs.read(numbers[self.share.slice]), self.device)

    def eval_batches(self) -> Iterator[Batch]:
        return self.task.eval_batches(self.corpus.validation, self.device)


class Drawn:
    """Rows of a table in random order, every one once per pass, about as long as each other."""

    def __init__(
        self,
        task: SupervisedTask,
        train: Sequence[Example],
        validation: Sequence[Example],
        seed: int,
        share: BatchShard,
        device: torch.device,
    ) -> None:
        self.task, self.train, self.validation = task, train, validation
        self.seed, self.share, self.device = seed, share, device
        self.lengths = np.array([example.max_len for example in train], dtype=np.int64)

    def batch(self, sample: int) -> Batch:
        numbers = length_bucketed_rows(sample, self.share.batch_size, self.lengths, self.seed)
        mine = numbers[self.share.slice]
        return self.task.collate([self.train[number] for number in mine], self.device)

    def eval_batches(self) -> Iterator[Batch]:
        for numbers in length_bucketed_batches(self.validation):
            yield self.task.collate([self.validation[number] for number in numbers], self.device)


def feed_for(
    corpus: TokenDataset, task: BaseTask, seed: int, share: BatchShard, device: torch.device
) -> Feed:
    """The way to read a text that fits the model."""
    if isinstance(task, Pairs):
        return Paired(corpus, task, seed, share, device)
    kind = Streams if task.backbone.remembers else Windows
    return kind(corpus, task, seed, share, device)
